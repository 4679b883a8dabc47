"""Which wheels share a layer: heavy ones have their own, small ones are spread over a few by a stable rule.

The group of a small wheel depends on nothing but its own name (rendezvous hashing over a fixed number of groups), so
that a new version, one package more or one less changes the layer of that group and no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

HEAVY = 4 << 20  # bytes of the wheel file; from here on a layer of its own is worth a place in the budget
MOST_HEAVY = 12  # layers for heavy wheels; further ones join the groups, so that an image stays below 30 layers
SMALL_GROUPS = 4


class Sized(Protocol):
    """A wheel: its normalised name, and the size of its file in bytes."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...


Wheel = TypeVar("Wheel", bound=Sized)


def group(wheels: Sequence[Wheel]) -> tuple[tuple[Wheel, ...], ...]:
    """The wheels of each layer: heavy ones first, the heaviest at the bottom, then the groups of small ones.

    At most 16 layers, whatever the number of wheels.
    """
    by_weight = sorted(wheels, key=lambda wheel: (-wheel.size, wheel.name))
    heavy = [wheel for wheel in by_weight if wheel.size >= HEAVY][:MOST_HEAVY]
    names = {wheel.name for wheel in heavy}
    groups: list[list[Wheel]] = [[] for _ in range(SMALL_GROUPS)]
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        if wheel.name not in names:
            groups[_group_of(wheel.name)].append(wheel)
    # Names, not sizes, decide the order of the layers: a new version must not move a layer past another.
    ordered = sorted(heavy, key=lambda wheel: wheel.name)
    return (*((wheel,) for wheel in ordered), *(tuple(small) for small in groups if small))


def _group_of(name: str) -> int:
    return max(range(SMALL_GROUPS), key=lambda number: hashlib.sha256(f"{number}:{name}".encode()).digest())
