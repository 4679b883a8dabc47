"""Schemas of the kinds that grammars for llama.cpp know, for Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "ab", 'q"\\', "é", "$ref"])
NUMBERS = st.integers(-30, 130)
SIMPLE = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": "string"}),
    st.builds(
        lambda one: {"const": one}, st.none() | st.booleans() | NUMBERS | NAMES | st.lists(NUMBERS, max_size=2)
    ),
    st.builds(lambda some: {"enum": some}, st.lists(NAMES | NUMBERS | st.none(), min_size=1, max_size=6)),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    st.builds(
        lambda kind, low, more, out: {"type": kind, out[0]: low, out[1]: low + more},
        st.sampled_from(["integer", "number"]),
        NUMBERS,
        st.integers(2, 120),
        st.sampled_from([("minimum", "maximum"), ("exclusiveMinimum", "maximum"), ("minimum", "exclusiveMaximum")]),
    ),
    st.builds(lambda form: {"type": "string", "format": form}, st.sampled_from(["time", "uuid", "ipv4"])),
)


def _composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(
            lambda properties, required: {
                "type": "object",
                "properties": properties,
                "required": [name for name in properties if name in required],
                "additionalProperties": False,
            },
            st.dictionaries(NAMES, inner, max_size=3),
            st.sets(NAMES),
        ),
        st.builds(
            lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
            inner,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one: {"type": "object", "additionalProperties": one}, inner),
    )


SCHEMAS = st.recursive(SIMPLE, _composed, max_leaves=6)
