"""Debian version comparison, as deb-version(7) defines it."""

from __future__ import annotations

import re

_PIECES = re.compile(r"([^0-9]*)([0-9]*)")

Key = tuple[object, ...]


def version_key(version: str) -> Key:
    """A sort key: versions compare as their keys do.

    >>> sorted(["1.0", "1.0~rc1", "1:0.1", "1.0-1"], key=version_key)
    ['1.0~rc1', '1.0', '1.0-1', '1:0.1']
    """
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return (_digits(epoch), _part_key(upstream), _part_key(revision))


def upstream_version(version: str) -> str:
    """The version without epoch and Debian revision: `3.11.2` of `3.11.2-6+deb12u9`."""
    return version.rpartition(":")[2].rpartition("-")[0] or version.rpartition(":")[2]


def satisfies(version: str, operator: str, wanted: str) -> bool:
    """Whether `version` stands in the relation `operator` (one of << <= = >= >>) to `wanted`."""
    have, want = version_key(version), version_key(wanted)
    match operator:
        case "<<" | "<":  # a single sign is the obsolete spelling of deb-control(5)
            return have < want if operator == "<<" else have <= want
        case "<=":
            return have <= want
        case "=":
            return have == want
        case ">=":
            return have >= want
        case ">>" | ">":
            return have > want if operator == ">>" else have >= want
    raise ValueError(f"not a version relation: {operator!r}")


def _part_key(part: str) -> Key:
    """Non-digits and numbers in turn; closed by an empty non-digit part, which sorts after a tilde."""
    key: list[object] = []
    for text, digits in _PIECES.findall(part or "0"):  # a missing revision equals the revision 0
        if text or digits:
            key += [_text_key(text), _digits(digits)]
    return (*key, _text_key(""))


def _text_key(text: str) -> tuple[int, ...]:
    """Tilde before the end, the end before letters, letters before everything else."""
    return (*(_rank(character) for character in text), 0)


def _rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 0x110000


def _digits(digits: str) -> tuple[int, str]:
    """Numbers of any length, compared without int(), which refuses very long ones."""
    significant = digits.lstrip("0")
    return (len(significant), significant)
