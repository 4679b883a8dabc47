"""A licence as it was found: an SPDX expression where the words can be read as one, and always where they stood."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightship.supply.families import DEEPEST, LONGEST, Family, family_of

LONGEST_NAME = 120  # characters of a licence's name that are kept; whole texts are put where names belong


@dataclass(frozen=True)
class Licence:
    """What somebody says that the terms are.

    Attributes:
        expression: An SPDX expression; None where the words are not clear enough for one.
        name: The words that were found, one line without control characters; empty where there are none.
        family: What the terms ask.
        source: Where the words stand: `License-Expression`, `copyright`, ...
    """

    expression: str | None
    name: str
    family: Family
    source: str

    @property
    def shown(self) -> str:
        """The best words there are."""
        return self.expression or self.name or "not stated"


NOT_STATED = Licence(None, "", Family.UNKNOWN, "")


def stated(expression: str, source: str) -> Licence:
    """A licence whose expression is known to be well formed."""
    return Licence(expression, expression, family_of(expression), source)


def spdx_expression(text: str) -> str | None:
    """The text as a well-formed expression of known identifiers, in its canonical spelling; None where it is none.

    >>> spdx_expression("mit and (apache-2.0 or bsd-2-clause)")
    'MIT AND (Apache-2.0 OR BSD-2-Clause)'
    >>> spdx_expression("see file LICENSE")
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if not text or len(text) > LONGEST or text.count("(") > DEEPEST or not text.isascii():
        return None
    try:
        return str(canonicalize_license_expression(text))
    except (InvalidLicenseExpression, ValueError, RecursionError, MemoryError):
        return None


def one_line(text: str) -> str:
    """The first line that says something, fit to be shown and to be put into a document.

    >>> one_line("  \\n BSD\\x1b[31m  License\\nCopyright ...")
    'BSD [31m License'
    """
    for line in text[: 64 * LONGEST_NAME].splitlines():
        clean = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in line)).strip()
        if any(character.isalnum() for character in clean):
            return clean if len(clean) <= LONGEST_NAME else clean[: LONGEST_NAME - 1].rstrip() + "…"
    return ""
