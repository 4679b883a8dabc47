"""What is no object and no list in a schema: texts and numbers with their bounds, as rules of a grammar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightship_runtime.generation.grammar import MOST_REPEATED, Grammar
from lightship_runtime.generation.grammar_numbers import LARGEST, Bounds, decimals, integers
from lightship_runtime.payload.call import RequestError

BOUNDS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
_DATE = '[0-9]{4} "-" ( "0" [1-9] | "1" [0-2] ) "-" ( "0" [1-9] | [12] [0-9] | "3" [01] )'
_TIME = (
    '( [01] [0-9] | "2" [0-3] ) ":" [0-5] [0-9] ":" [0-5] [0-9] ( "." [0-9]{1,9} )? '
    '( "Z" | [+-] ( [01] [0-9] | "2" [0-3] ) ":" [0-5] [0-9] )'
)
_BYTE = '( "25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9] [0-9] | [0-9] )'
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": 'hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}',
    "ipv4": f'{_BYTE} "." {_BYTE} "." {_BYTE} "." {_BYTE}',
}


def wrong(place: str, why: str) -> RequestError:
    """The error for what a schema has at a place, a path of names."""
    shown = "".join(one if one.isprintable() else "?" for one in place[:100])
    where = f" at '{shown}'" if shown else ""
    return RequestError(
        f"The schema cannot be kept to{where}: {why}.", param="response_format", code="unsupported_parameter"
    )


def string_rule(grammar: Grammar, schema: Mapping[str, Any], place: str) -> str:
    """The rule of a text. Raises RequestError, and TooLarge."""
    form = schema.get("format")
    least, most = counts(schema, "minLength", "maxLength", place)
    if form is not None:
        if not isinstance(form, str) or form not in _FORMATS:
            raise wrong(place, f"of formats it knows {', '.join(_FORMATS)}")
        if least or most is not None:
            raise wrong(place, "a format beside lengths is not known here")
        return grammar.rule(f'"\\"" {_FORMATS[form]} "\\""')
    if not least and most is None:
        return "string"
    if most == 0:
        return grammar.rule(r'"\"\""')
    return grammar.rule(f'"\\"" {grammar.repeated("char", least, most)} "\\""')


def number_rule(grammar: Grammar, kind: str, schema: Mapping[str, Any], place: str) -> str:
    """The rule of a number. Raises RequestError."""
    if not schema.keys() & BOUNDS:
        return kind
    least, above = _bound(schema, "minimum", "exclusiveMinimum", place, sign=1)
    most, below = _bound(schema, "maximum", "exclusiveMaximum", place, sign=-1)
    bounds = Bounds(-LARGEST if least is None else least, LARGEST if most is None else most, above=above, below=below)
    body = integers(bounds) if kind == "integer" else decimals(bounds)
    if body is None:
        raise wrong(place, "there is no number within its bounds")
    return grammar.rule(body)


def is_of(value: Any, kinds: Any) -> bool:
    """Whether a value of JSON is of one of these types of schemas."""
    if isinstance(value, bool):
        return "boolean" in kinds
    if isinstance(value, int):
        return "number" in kinds or "integer" in kinds
    if isinstance(value, float):
        return "number" in kinds or ("integer" in kinds and value.is_integer())
    if value is None:
        return "null" in kinds
    if isinstance(value, str):
        return "string" in kinds
    return ("array" if isinstance(value, list) else "object") in kinds


def counts(schema: Mapping[str, Any], lower: str, upper: str, place: str) -> tuple[int, int | None]:
    """Two bounds on how many there may be. Raises RequestError."""
    least, most = schema.get(lower, 0), schema.get(upper)
    for value in (least, 0 if most is None else most):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise wrong(place, f"{lower} and {upper} are whole numbers")
    if most is not None and most < least:
        raise wrong(place, "it allows nothing")
    if max(least, most or 0) > MOST_REPEATED:
        raise wrong(place, f"{lower} and {upper} are at most {MOST_REPEATED} here")
    return least, most


def _bound(
    schema: Mapping[str, Any], including: str, excluding: str, place: str, *, sign: int
) -> tuple[int | None, bool]:
    """The stronger of two bounds, and whether it is left out itself."""
    found: list[tuple[int, bool]] = []
    for name, out in ((including, False), (excluding, True)):
        if name not in schema:
            continue
        value: Any = schema[name]
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or abs(value) > LARGEST:
            raise wrong(place, f"{name} is known here as a whole number of at most 15 digits")
        found.append((int(value) * sign, out))
    if not found:
        return None, False
    strongest = max(found)
    return strongest[0] * sign, strongest[1]
