"""Schemas that a client sends for an answer, as llguidance is given them, which two engines have inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lightship_runtime.generation.request import GenerationRequest
from lightship_runtime.payload.call import RequestError

MAX_SCHEMA = 64 << 10  # bytes: a schema is compiled while other texts wait
# What the lengths that arrays are bound to may add up to. llguidance makes a symbol of every place in an array: ten
# million took 5 s and 1.2 GB, 2 ** 40 ended the process.
MAX_LENGTHS = 100_000
# White space that is left to the model has no end in the library's grammars, and models that know no way on write it.
_SPACED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_LENGTHS = ("minItems", "maxItems")


def guided_schema(request: GenerationRequest) -> str:
    """What the text has to keep to, as JSON; any object for `json_object`. Raises RequestError for a huge schema."""
    schema = {"type": "object"} if request.response_format == "json_object" else request.schema or {}
    text = json.dumps({**schema, "x-guidance": _SPACED})
    if len(text) > MAX_SCHEMA:
        raise RequestError(f"The schema has more than {MAX_SCHEMA} bytes.", param="response_format")
    if _lengths(schema) > MAX_LENGTHS:
        raise RequestError(f"The schema's arrays have more than {MAX_LENGTHS} places.", param="response_format")
    return text


def _lengths(schema: Any) -> float:
    """The sum of all bounds on lengths of arrays, wherever they stand."""
    found, left = 0.0, [schema]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            found += sum(float(min(abs(one[name]), 1e300)) for name in _LENGTHS if _is_number(one.get(name)))
            left += one.values()
        elif isinstance(one, list):
            left += one
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
