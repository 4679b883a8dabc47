"""How two schemas can be told apart, and how many readings of a text a grammar has to follow at once.

llama.cpp follows every reading that is still possible with every token, so that alternatives which begin alike, and
lie in one another, would be twice as many with each level. What cannot be told apart soon is counted, and bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_READINGS = 128
_MOST_LEAVES = 250  # alternatives, those of alternatives as well


class Endless(Exception):  # not an error of ours: whoever knows the schema says so
    """A schema's alternatives lead back to itself, or are too many."""


@dataclass(eq=False)
class Shape:
    """What values of a schema look like.

    Attributes:
        kinds: Of JSON: "object", "array", "string", "number", "boolean", "null".
        firsts: The names that an object of it can begin with; None where it can be any, or is no object.
        texts: The only texts that it can be, as JSON; None where there are others.
        members: What the values of its required members look like, for objects.
        first_required: The name that an object of it always begins with.
        inner: Shapes within it, of which only one is read at a time.
        choices: Shapes of which it is one; all of the others are empty then.
        own: Readings of it that have to be followed at once, without those of what is within it.
        readings: The same with them, as far as they have been computed.
        leaves: The choices, and the choices of those, as far as they have been computed.
    """

    kinds: frozenset[str] = frozenset()
    firsts: frozenset[str] | None = None
    texts: frozenset[str] | None = None
    members: dict[str, Shape] = field(default_factory=dict)
    first_required: str | None = None
    inner: list[Shape] = field(default_factory=list)
    choices: list[Shape] = field(default_factory=list)
    own: int = 1
    readings: int = 1
    leaves: list[Shape] | None = None
    visited: bool = False


def leaves(shape: Shape) -> list[Shape]:
    """What it can be that is no choice itself. Raises Endless."""
    if shape.leaves is None:
        if shape.visited:
            raise Endless
        shape.visited = True
        found = [leaf for one in shape.choices for leaf in leaves(one)] if shape.choices else [shape]
        shape.leaves = list(dict.fromkeys(found))
        if len(shape.leaves) > _MOST_LEAVES:
            raise Endless
    return shape.leaves


def exclude_each_other(one: Shape, other: Shape) -> bool:
    """Whether no value is of both. Raises Endless."""
    return all(_exclude(a, b) for a in leaves(one) for b in leaves(other))


def most_readings(shapes: list[Shape]) -> int:
    """The most readings of any of them; more than MOST_READINGS where they are too many. Raises Endless."""
    together = {shape: _alike(leaves(shape)) for shape in shapes if shape.choices}
    for _ in range(MOST_READINGS + 1):
        changed = False
        for shape in shapes:
            if shape.choices:
                alike = sum(one.readings for one in together[shape])
                count = max(alike, len(leaves(shape)), *(one.readings for one in leaves(shape)))
            else:
                count = max([shape.own, *(one.readings for one in shape.inner)])
            if count > MOST_READINGS:
                return count
            changed = changed or count != shape.readings
            shape.readings = count
        if not changed:
            return max((shape.readings for shape in shapes), default=1)
    return MOST_READINGS + 1


def _alike(found: list[Shape]) -> list[Shape]:
    """Those that cannot be told from all others soon: they are read together."""
    alike: dict[Shape, None] = {}
    for number, one in enumerate(found):
        for other in found[:number]:
            if not _told_apart_soon(one, other):
                alike |= {one: None, other: None}
    return list(alike)


def _told_apart_soon(one: Shape, other: Shape) -> bool:
    """Whether it is known which of two a text is before anything within it has to be read twice."""
    if not one.kinds & other.kinds or _other_texts([one], [other]):
        return True
    if one.kinds != {"object"} or other.kinds != {"object"} or one.firsts is None or other.firsts is None:
        return False
    if not one.firsts & other.firsts:
        return True
    first = one.first_required
    if first is None or first != other.first_required:
        return False
    return _other_texts(leaves(one.members[first]), leaves(other.members[first]))


def _exclude(one: Shape, other: Shape) -> bool:
    if not one.kinds & other.kinds or _other_texts([one], [other]):
        return True
    shared = one.members.keys() & other.members.keys()
    return any(_other_texts(leaves(one.members[name]), leaves(other.members[name])) for name in shared)


def _other_texts(some: list[Shape], others: list[Shape]) -> bool:
    """Whether the only texts of the ones are none of the others'."""
    ones = [shape.texts for shape in some]
    twos = [shape.texts for shape in others]
    return all(a is not None and b is not None and not a & b for a in ones for b in twos)
