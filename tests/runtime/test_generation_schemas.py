"""Schemas of a client's: what is too large is refused before any library builds a grammar of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lightship_runtime.generation.request import GenerationRequest
from lightship_runtime.generation.schemas import MAX_LENGTHS, MAX_SCHEMA, guided_schema
from lightship_runtime.payload.call import RequestError


def asked(schema: dict[str, Any]) -> GenerationRequest:
    return GenerationRequest(prompt="A", response_format="json_schema", schema=schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"n": {"type": "integer"}}},
        {"type": "array", "maxItems": 5, "minItems": MAX_LENGTHS - 5},
        {"properties": {"minItems": {"type": "string"}}},  # a member of that name
        {"maxItems": True, "minItems": None},
        {},
    ],
)
def test_a_schema_of_ordinary_size_stays_as_it_is(schema: dict[str, Any]) -> None:
    kept = json.loads(guided_schema(asked(schema)))
    assert kept.pop("x-guidance")["whitespace_flexible"] is False
    assert kept == schema
    of_any_object = json.loads(guided_schema(GenerationRequest(prompt="A", response_format="json_object")))
    assert of_any_object["type"] == "object"


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["a" * MAX_SCHEMA]},
        {"type": "array", "minItems": 1 << 40},
        {"type": "array", "maxItems": 1e6},
        {"type": "array", "maxItems": 10**400},
        {"type": "array", "minItems": -(10**400)},
        {"properties": {name: {"maxItems": 30_000} for name in "abcd"}},
        {"anyOf": [{"items": [{"maxItems": MAX_LENGTHS}, {"minItems": 1}]}]},
    ],
)
def test_what_is_too_large_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="schema") as caught:
        guided_schema(asked(schema))
    assert caught.value.param == "response_format"
