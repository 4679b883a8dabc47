"""What the values of a pickle look like while it is read: just enough to know names, types and shapes.

Text, numbers, None and small tuples stand for themselves. Everything of no interest is `OPAQUE`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_ITEMS = 512  # items of a container that are remembered; estimators have fewer attributes


class Opaque:
    """A value of which nothing is known."""

    def __repr__(self) -> str:
        return "OPAQUE"


OPAQUE: Final = Opaque()


@dataclass(frozen=True, slots=True)
class Global:
    """Something that is imported by name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class Dictionary:
    """A dict, of which only textual keys are remembered. `partial`: it has entries that are not."""

    items: dict[str, object] = field(default_factory=dict)
    partial: bool = False


@dataclass(slots=True)
class Sequence:
    """A list or set, of which the first items are remembered; `partial`: it has more."""

    items: list[object] = field(default_factory=list)
    partial: bool = False


@dataclass(slots=True)
class Instance:
    """What calling `maker` with `arguments` gives, and the state that was put into it since."""

    maker: object
    arguments: object
    state: Dictionary | None = None
    extra: object = None  # a state that is not a dict, such as dtype's tuple
    settled: object = None  # what was worked out of the state


@dataclass(frozen=True, slots=True)
class Persistent:
    """A value that lies outside of the pickle, such as a tensor's storage."""

    identity: object
