"""Debian's control syntax: paragraphs of fields, and the relations between packages (deb-control(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lightship.bases.debian.version import satisfies
from lightship.errors import IntegrityError

_RELATION = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]+)(?::[a-z0-9-]+)?"
    r"\s*(?:\(\s*(?P<operator><<|<=|=|>=|>>|<|>)\s*(?P<version>[A-Za-z0-9.+:~-]+)\s*\))?"
)


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file; continuation lines are kept with their line breaks, comments dropped.

    >>> list(paragraphs("Package: a\\nDepends: b,\\n c\\n\\nPackage: d\\n"))
    [{'Package': 'a', 'Depends': 'b,\\n c'}, {'Package': 'd'}]
    """
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if not last:
                raise IntegrityError(f"A control paragraph begins with a continuation line: {line!r}.")
            fields[last] += "\n" + line
        else:
            last, colon, value = line.partition(":")
            if not colon:
                raise IntegrityError(f"Not a field of a control paragraph: {line[:80]!r}.")
            fields[last] = value.strip()
    if fields:
        yield fields


@dataclass(frozen=True)
class Relation:
    """One package that another asks for: `libc6 (>= 2.35)`."""

    name: str
    operator: str = ""
    version: str = ""

    def admits(self, version: str) -> bool:
        """Whether this version of the package is one that is asked for."""
        return not self.operator or satisfies(version, self.operator, self.version)

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


def relations(field: str) -> tuple[tuple[Relation, ...], ...]:
    """A dependency field: all groups must hold; of each group one alternative, the first that can be had.

    Architecture qualifiers such as `:any` are dropped: a base holds one architecture.

    >>> [[str(one) for one in group] for group in relations("libc6 (>= 2.35), awk | mawk, perl:any")]
    [['libc6 (>= 2.35)'], ['awk', 'mawk'], ['perl']]
    """
    groups = []
    for group in field.split(","):
        if group.strip():
            groups.append(tuple(_relation(one) for one in group.split("|")))
    return tuple(groups)


def _relation(text: str) -> Relation:
    matched = _RELATION.fullmatch(text.strip())
    if matched is None:
        raise IntegrityError(f"Not a relation between Debian packages: {text.strip()[:80]!r}.")
    return Relation(matched["name"], matched["operator"] or "", matched["version"] or "")
