"""Grammars in llama.cpp's notation, GBNF: rules that are shared where they are alike, and the literals in them.

Only forms that its parser takes are written: what it cannot read, it refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

MOST_RULES = 4000
MOST_REPEATED = 1000  # of one thing; llama.cpp makes a rule of each, and refuses 2000
MOST_REPEATED_IN_ALL = 8000
_DEEPEST = 40  # beginnings within beginnings
_UNSAFE = re.compile(r'["\\]')
# White space may stand where a model likes to write it, and ends: a model that is kept from going on writes spaces.
BASE = {
    "ws": r'( " " | "\n" [ ]{0,32} )?',
    "hex": "[0-9a-fA-F]",
    # Neither half a character of two, nor what JSON has escaped.
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" ( ["\\/bfnrt] | "u" ( [0-9abcefABCEF] hex{3} | [dD] [0-7] hex{2} ) )',
    "string": r'"\"" char* "\""',
    "integer": '"-"? ( "0" | [1-9] [0-9]{0,15} )',
    "number": 'integer ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,2} )?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "member": 'string ":" ws value',
    "object": '"{" ws ( member ( "," ws member )* ws )? "}"',
    "array": '"[" ws ( value ( "," ws value )* ws )? "]"',
    "value": "object | array | string | number | boolean | null",
}


class TooLarge(Exception):  # not an error of ours: whoever knows the schema says so
    """A grammar has more rules, or repeats more, than it may."""


class Grammar:
    """Rules by name. Those that are written alike are one, so that no choice has an alternative twice."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._rules: dict[str, str] = {}
        self._repeated = 0
        self.widest = 1  # of the last `one_of`: how many of its texts go on with different letters at some place

    def rule(self, body: str) -> str:
        """The name of a rule with this body."""
        name = self._names.get(body)
        if name is None:
            name = self._names[body] = self.reserve()
            self._rules[name] = body
        return name

    def reserve(self) -> str:
        """A name for a rule that is defined later, because it leads back to itself."""
        if len(self._rules) >= MOST_RULES:
            raise TooLarge
        name = f"r{len(self._rules)}"
        self._rules[name] = ""
        return name

    def define(self, name: str, body: str) -> None:
        """The body of a reserved rule."""
        self._rules[name] = body

    def repeated(self, item: str, least: int, most: int | None) -> str:
        """A rule's name, so many times."""
        if most is None and least == 0:
            return f"{item}*"
        self._repeated += max(least, most or 0)
        if max(least, most or 0) > MOST_REPEATED or self._repeated > MOST_REPEATED_IN_ALL:
            raise TooLarge
        return f"{item}{{{least},{'' if most is None else most}}}"

    def one_of(self, texts: Iterable[str]) -> str:
        """One of some texts. What several begin with is there once: each alternative costs time with every token."""
        self.widest = 1
        return self._one_of(sorted(set(texts)), 0)

    def _one_of(self, ordered: list[str], depth: int) -> str:
        if len(ordered) == 1 or depth > _DEEPEST:
            self.widest = max(self.widest, len(ordered))
            return " | ".join(map(literal, ordered))
        groups: dict[str, list[str]] = {}
        for text in ordered:
            groups.setdefault(text[:1], []).append(text)
        self.widest = max(self.widest, len(groups) + 1)
        return " | ".join(self._beginning(group, depth) for group in groups.values())

    def _beginning(self, texts: list[str], depth: int) -> str:
        if len(texts) == 1:
            return literal(texts[0])
        first, last = texts[0], texts[-1]  # they are in order, so that these two have the least in common
        length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        rests = [text[length:] for text in texts]
        rest = self.rule(self._one_of([one for one in rests if one], depth + 1))
        return f"{literal(first[:length])} {rest}{'?' if '' in rests else ''}"

    def text(self, root: str) -> str:
        """The whole grammar, which begins with a rule."""
        rules = {"root": root, **BASE, **self._rules}
        return "".join(f"{name} ::= {body}\n" for name, body in rules.items())


def literal(text: str) -> str:
    """A text as it is; "" is none."""
    return f'"{_UNSAFE.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def json_text(value: Any) -> str:
    """A value in JSON, as models write it. Raises ValueError for what no text can have."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()
    return text
