"""JSON schemas as grammars: whatever one can write is valid, what is not known is refused, and all is bounded."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from known_schemas import SCHEMAS

from lightship_runtime.generation.forcing import call_schema
from lightship_runtime.generation.grammar_numbers import Bounds, decimals, integers
from lightship_runtime.generation.schema_grammar import OBJECT, schema_grammar
from lightship_runtime.payload import RequestError

_PARTS = re.compile(r'("(?:\\.|[^"\\])*")|(\[(?:\\.|[^\]\\])*\])|([a-z][a-zA-Z0-9]*)|\s+|(\{[0-9,]+\})|(.)')
_ESCAPED = re.compile(r"\\(.)")
_DEPTH = 2  # how often a rule may be within itself; beyond that nothing matches


def regex(grammar: str) -> str:
    """The same as a regular expression of Python's, as deep as it is looked at here."""
    rules = dict(line.split(" ::= ", 1) for line in grammar.rstrip("\n").split("\n"))
    done: dict[tuple[str, tuple[tuple[str, int], ...]], str] = {}

    def expanded(name: str, within: dict[str, int]) -> str:
        if within.get(name, 0) >= _DEPTH:
            return "(?!)"
        key = (name, tuple(sorted(within.items())))
        if key not in done:
            done[key] = body(rules[name], {**within, name: within.get(name, 0) + 1} if loops(name) else within)
        return done[key]

    def body(text: str, within: dict[str, int]) -> str:
        made = []
        for quoted, letters, name, times, other in _PARTS.findall(text):
            if quoted:
                made.append(f"(?:{re.escape(_ESCAPED.sub(_unescaped, quoted[1:-1]))})")
            elif name:
                made.append(f"(?:{expanded(name, within)})")
            else:
                made.append(letters.replace("\\[", "[") or times or {"(": "(?:"}.get(other, other))
        return "".join(made)

    def loops(name: str) -> bool:
        seen: set[str] = set()
        todo = [name]
        while todo:
            for _, _, used, _, _ in _PARTS.findall(rules[todo.pop()]):
                if used == name:
                    return True
                if used and used not in seen:
                    seen.add(used)
                    todo.append(used)
        return False

    return expanded("root", {})


def _unescaped(found: re.Match[str]) -> str:
    return {"n": "\n"}.get(found[1], found[1])


def accepts(schema: Any, text: str) -> bool:
    return re.fullmatch(regex(schema_grammar(schema)), text) is not None


PERSON = {
    "type": "object",
    "title": "Person",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0},
        "home": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"enum": ["red", "reddish", "blue"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "home"],
    "additionalProperties": False,
    "$defs": {"Place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
}


@pytest.mark.parametrize(
    ("schema", "text", "accepted"),
    [
        (PERSON, '{"name":"Ann","home":null}', True),
        (PERSON, ' {"name": "Ann", "age": 3, "home": {"x": -1.5e3}, "tags": ["red", "reddish"]}', True),
        (PERSON, '{\n  "name": "Ann",\n  "home": null\n}', True),
        (PERSON, '{"name":"Annabel","home":null}', False),
        (PERSON, '{"name":"Ann"}', False),
        (PERSON, '{"home":null,"name":"Ann"}', False),  # in their order
        (PERSON, '{"name":"Ann","age":-1,"home":null}', False),
        (PERSON, '{"name":"Ann","home":null,"tags":[]}', False),
        (PERSON, '{"name":"Ann","home":null,"tags":["red","red","red"]}', False),
        (PERSON, '{"name":"Ann","home":null,"more":1}', False),
        (PERSON, '{"name":"Ann","home":null,}', False),
        ({"properties": {"a": {}, "b": {}}}, "{}", True),
        ({"properties": {"a": {}, "b": {}}}, '{"b": [1, "x"]}', True),
        ({"properties": {"a": {}, "b": {}}}, '{"a": 1, "b": "x"}', True),
        ({"properties": {"a": {}, "b": {}}}, '{, "b": 1}', False),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"x": 1, "y": 2}', True),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"x": "1"}', False),
        ({"type": "object", "additionalProperties": False}, "{}", True),
        ({"const": {"a": [1, None]}}, '{"a": [1, null]}', True),
        ({"enum": [1, "1", None], "type": ["string", "null"]}, '"1"', True),
        ({"enum": [1, "1", None], "type": ["string", "null"]}, "1", False),
        ({"type": ["integer", "boolean"]}, "true", True),
        ({"type": "string"}, '"\\u00e9\\n\\"é🙂"', True),
        ({"type": "string"}, '"\\ud83d"', False),  # half a character
        ({"type": "string"}, '"\n"', False),
        ({"type": "string", "minLength": 2}, '"a"', False),
        ({"type": "string", "minLength": 2}, '"ab"', True),
        ({"type": "string", "format": "date"}, '"2026-11-21"', True),
        ({"type": "string", "format": "date"}, '"2026-13-21"', False),
        ({"type": "string", "format": "date-time"}, '"2026-11-21T16:55:00Z"', True),
        ({"type": "string", "format": "ipv4"}, '"256.0.0.1"', False),
        ({"allOf": [{"type": "null"}]}, "null", True),
        ({}, '{"a": true}', True),
        ({"oneOf": [{"type": "null"}, {"type": "string"}]}, '"x"', True),
        ({"type": "number", "minimum": 0, "maximum": 1}, "0.75", True),
        ({"type": "number", "minimum": 0, "maximum": 1}, "1.75", False),
    ],
)
def test_what_a_grammar_accepts(schema: Any, text: str, accepted: bool) -> None:
    assert accepts(schema, text) is accepted
    if accepted:
        jsonschema.validate(json.loads(text), schema)


def test_objects_without_a_schema() -> None:
    for text, accepted in (('{"a": [1, {}], "b": "x"}', True), ("{}", True), ("[]", False), ('{"a"}', False)):
        assert (re.fullmatch(regex(OBJECT), text) is not None) is accepted


# everything that is written is valid


@settings(max_examples=120, deadline=None)
@given(SCHEMAS, st.data())
def test_every_text_of_a_grammar_is_valid(schema: dict[str, Any], data: st.DataObject) -> None:
    text = data.draw(st.from_regex(re.compile(regex(schema_grammar(schema))), fullmatch=True))
    assume(max(text, default="") < "\ud800" or max(text, default="") > "\udfff")
    jsonschema.validate(json.loads(text), schema)


WHOLE = st.integers(-2000, 2000) | st.integers(-(10**15) + 1, 10**15 - 1)


@settings(max_examples=1000, deadline=None)
@given(WHOLE, WHOLE, st.booleans(), st.booleans(), st.data())
def test_bounds_hold_for_each_number(one: int, other: int, above: bool, below: bool, data: st.DataObject) -> None:
    least, most = sorted((one, other))
    bounds = Bounds(least, most, above, below)
    near = st.sampled_from([least, most]).flatmap(lambda at: st.integers(at - 12, at + 12))
    value = data.draw(near | st.integers(least, most))
    within = least + above <= value <= most - below
    assert _matches(integers(bounds), str(value)) is within
    assert _matches(decimals(bounds), str(value)) is within
    shown = f"{value}.5" if value >= 0 else f"{value}.25"
    exact = value + 0.5 if value >= 0 else value - 0.25
    if abs(value) < 1 << 40:
        assert _matches(decimals(bounds), shown) is (least < exact < most)


def _matches(body: str | None, text: str) -> bool:
    return body is not None and re.fullmatch(regex(f"root ::= {body}\n"), text) is not None


# what is refused

DEEP: Any = {"type": "null"}
for _ in range(60):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "pattern": "a+"}, "pattern is not known"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "'/properties/a'"),
        ({"type": "string", "format": "email"}, "formats"),
        ({"type": "string", "format": []}, "formats"),
        ({"type": "string", "maxLength": 2000}, "at most 1000"),
        ({"type": "string", "maxLength": "1"}, "whole numbers"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "allows nothing"),
        ({"type": "number", "minimum": 0.5}, "whole number"),
        ({"type": "number", "multipleOf": 2}, "multipleOf"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "no number"),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "no number"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "items": [{"type": "null"}]}, "'/items'"),
        ({"type": "wizard"}, "type"),
        ({"type": []}, "type"),
        ({"type": [["string"]]}, "type"),
        ({"enum": []}, "allows nothing"),
        ({"enum": "abc"}, "list"),
        ({"enum": ["a"], "type": "integer"}, "allows nothing"),
        ({"enum": list(range(300))}, "250 values"),
        ({"enum": ["\ud800"]}, "cannot be written"),
        ({"properties": {"\ud800": {}}}, "cannot be written"),
        ({"const": 1, "minimum": 0}, "minimum"),
        ({"properties": {"a": {}}, "required": ["b"]}, "b is required"),
        ({"properties": {"a": False}}, "allows nothing"),
        ({"properties": {"a": 3}}, "no schema"),
        ({"minimum": 1, "maxLength": 1}, "without a type"),
        ({"anyOf": []}, "no list"),
        ({"anyOf": [{"type": "null"}], "type": "null"}, "beside anyOf"),
        ({"allOf": [{"type": "null"}, {}]}, "allOf"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 2}]}, "several of oneOf"),
        ({"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, "several of oneOf"),
        ({"$ref": "https://example.com/schema"}, "within the schema"),
        ({"$ref": "#/$defs/none"}, "nowhere"),
        ({"$ref": "#"}, "lead back"),
        ({"$ref": 3}, "within the schema"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "lead back"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}},
            "beside|lead back",
        ),
        (
            {
                "properties": {"x": {"$ref": "#/$defs/a"}},
                "$defs": {
                    "a": {"anyOf": [{"properties": {"b": {"$ref": "#/$defs/b"}}}, {"$ref": "#/$defs/b"}]},
                    "b": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]},
                },
            },
            "lead back",
        ),
        (DEEP, "too deeply"),
        ({"description": "x" * 70_000}, "bytes"),
        ({"properties": {f"p{number}": {} for number in range(300)}}, "at most 200"),
        ({"type": "array", "items": {"type": "array", "maxItems": 1000, "items": {"maxLength": 999}}}, None),
        ({"properties": {f"p{number}": {"maxLength": 900 + number} for number in range(90)}}, "too large"),
        ({"enum": ["a" * length for length in range(250)]}, "begin alike"),
        ({"enum": ["a" * length for length in range(90)]}, None),
    ],
)
def test_what_is_not_known_is_refused_by_its_place(schema: Any, words: str | None) -> None:
    if words is None:
        assert schema_grammar(schema)
        return
    with pytest.raises(RequestError, match=words) as caught:
        schema_grammar(schema)
    assert (caught.value.status, caught.value.param) == (400, "response_format")


def nested(depth: int, *names: str) -> Any:
    """Alternatives within alternatives: twice as many readings with each level, where they begin alike."""
    defs: dict[str, Any] = {"l0": {"type": "integer"}}
    for level in range(depth):
        inner = {"$ref": f"#/$defs/l{level}"}
        kinds = (inner, {"type": "array", "items": inner})
        objects = [{"properties": {name: kind}, "required": [name]} for name, kind in zip(names, kinds, strict=True)]
        defs[f"l{level + 1}"] = {"anyOf": objects}
    return {"properties": {"x": {"$ref": f"#/$defs/l{depth}"}}, "$defs": defs}


def test_readings_do_not_multiply() -> None:
    assert schema_grammar(nested(4, "a", "a"))
    with pytest.raises(RequestError, match="begin alike"):
        schema_grammar(nested(9, "a", "a"))
    assert schema_grammar(nested(9, "a", "b"))
    tree = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"type": "array", "items": {"type": "null"}}]}}
    with pytest.raises(RequestError, match="begin alike"):
        schema_grammar(tree)
    assert schema_grammar({"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}})


def test_kinds_that_name_themselves_first_may_be_alike_behind_it() -> None:
    node = {"$ref": "#/$defs/node"}
    kinds = [
        {"properties": {"kind": {"const": kind}, "left": node, "right": node}, "required": ["kind"]}
        for kind in ("add", "mul", "neg")
    ]
    schema = {"properties": {"root": node}, "$defs": {"node": {"oneOf": kinds}}, "required": ["root"]}
    assert accepts(schema, '{"root": {"kind": "add", "left": {"kind": "neg"}}}')
    assert not accepts(schema, '{"root": {"kind": "sub"}}')


def test_a_schema_that_is_used_often_is_there_once() -> None:
    defs: dict[str, Any] = {}
    for number in range(15):
        further = {"$ref": f"#/$defs/d{number + 1}"}
        defs[f"d{number}"] = {"properties": {"a": further, "b": further}}
    defs["d15"] = {"type": "null"}
    assert len(schema_grammar({"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": defs})) < 20_000


WORDS = st.sampled_from([
    *("type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "enum", "const"),
    *("anyOf", "oneOf", "allOf", "$ref", "$defs", "minLength", "maxLength", "format", "minimum", "maximum", "title"),
    *("exclusiveMinimum", "pattern", "not", "default", "a"),
])  # fmt: skip
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3) | st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.sampled_from(["object", "array", "string", "integer", "number", "null", "#", "#/$defs/a", "#/properties/a"]),
    st.sampled_from(["date", "uuid"]),
)
ANYTHING = st.dictionaries(
    WORDS,
    st.recursive(
        VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
    ),
    max_size=5,
)


@settings(max_examples=800, deadline=None)
@given(ANYTHING)
def test_anything_is_compiled_or_refused(schema: dict[str, Any]) -> None:
    try:
        grammar = schema_grammar(schema)
    except RequestError as error:
        assert error.status == 400
        return
    names = {line.split(" ::= ")[0] for line in grammar.rstrip("\n").split("\n")}
    used = {
        name
        for line in grammar.rstrip("\n").split("\n")
        for _, _, name, _, _ in _PARTS.findall(line.split(" ::= ", 1)[1])
    }
    assert used - {""} <= names


# calls of tools


def test_a_call_is_of_one_of_the_tools_with_its_own_arguments() -> None:
    tide = {"properties": {"day": {"$ref": "#/$defs/d"}}, "required": ["day"], "$defs": {"d": {"type": "integer"}}}
    tools = [{"function": {"name": "tide", "parameters": tide}}, {"function": {"name": "now"}}]
    schema = call_schema(tools)
    assert accepts(schema, '{"name": "tide", "arguments": {"day": 3}}')
    assert accepts(schema, '{"name": "now", "arguments": {}}')
    assert not accepts(schema, '{"name": "now", "arguments": {"day": 3}}')
    assert not accepts(schema, '{"name": "wind", "arguments": {}}')
    assert accepts(call_schema(tools[:1]), '{"name":"tide","arguments":{"day":-12}}')
