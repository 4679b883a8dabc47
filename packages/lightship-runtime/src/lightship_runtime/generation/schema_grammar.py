"""JSON schemas as grammars, so that llama.cpp writes nothing that a schema does not allow.

Its own compiler of schemas lets one that it cannot read pass as none at all, at the start or in the middle of a text.
This one knows a part of JSON Schema, and refuses what it does not know by its place. Texts are held to more than the
schema says: members come in the order of `properties`, and there are no others where some are named.

    type, enum, const, anyOf, $ref within the schema
    objects: properties, required, additionalProperties    strings: minLength, maxLength, format (five of them)
    arrays: items, minItems, maxItems                      numbers: minimum, maximum and the exclusive ones
    oneOf, where no value can be of two of them            allOf of a single one

A schema is a stranger's: its size, its depth, its rules and the readings that a text can have are bounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from lightship_runtime.generation.grammar import BASE, Grammar, TooLarge, json_text, literal
from lightship_runtime.generation.schema_shape import (
    MOST_READINGS,
    Endless,
    Shape,
    exclude_each_other,
    most_readings,
)
from lightship_runtime.generation.schema_values import BOUNDS, counts, is_of, number_rule, string_rule, wrong

MOST_BYTES = 64 << 10
_DEEPEST = 48
_MOST_CHOICES = 250  # of an enum
_MOST_MEMBERS = 200  # of an object
_ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"),
        *("$schema", "$defs", "definitions", "discriminator"),
    )
)
_OF_KIND = {
    "object": frozenset(("properties", "required", "additionalProperties")),
    "array": frozenset(("items", "minItems", "maxItems")),
    "string": frozenset(("minLength", "maxLength", "format")),
    "number": BOUNDS,
    "integer": BOUNDS,
}
_KINDS = ("object", "array", "string", "number", "integer", "boolean", "null")


def schema_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of a schema. Raises RequestError for what cannot be kept to, with its place."""
    try:
        text = json.dumps(schema)
        if len(text) > MOST_BYTES:
            raise wrong("", f"it has more than {MOST_BYTES} bytes")
        return _compiled(text)
    except (TooLarge, RecursionError) as error:
        raise wrong("", "it is too large") from error


@lru_cache(maxsize=8)  # the texts of one request have one schema, and so have many requests
def _compiled(text: str) -> str:
    return _Compiler(json.loads(text)).grammar()


class _Compiler:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._grammar = Grammar()
        self._shapes: list[Shape] = []
        self._references: dict[str, tuple[str, Shape]] = {}
        self._single: list[tuple[str, list[Shape]]] = []  # places of oneOf, and what a value is one of

    def grammar(self) -> str:
        name, _ = self._value(self._root, "", 0)
        try:
            if most_readings(self._shapes) > MOST_READINGS:
                raise wrong("", "its alternatives begin alike, and too many would have to be followed at once")
            for place, shapes in self._single:
                for number, one in enumerate(shapes):
                    if not all(exclude_each_other(one, other) for other in shapes[:number]):
                        raise wrong(place, "a value may be of several of oneOf; use anyOf")
        except Endless as error:
            raise wrong("", "its alternatives lead back to it, or are too many") from error
        return self._grammar.text(f"ws {name}")

    def _shape(self, **said: Any) -> Shape:
        shape = Shape(**said)
        self._shapes.append(shape)
        return shape

    def _value(self, schema: Any, place: str, depth: int) -> tuple[str, Shape]:
        """The rule of a schema, which never begins with space nor is empty, and what its values look like."""
        if depth > _DEEPEST:
            raise wrong(place, "it is nested too deeply")
        if schema is True or schema == {}:
            return "value", self._shape(kinds=frozenset(_KINDS) - {"integer"})
        if not isinstance(schema, Mapping):
            raise wrong(place, "it allows nothing" if schema is False else "it is no schema")
        given = schema.keys() - _ANNOTATIONS
        if not given:
            return "value", self._shape(kinds=frozenset(_KINDS) - {"integer"})
        for name in ("$ref", "anyOf", "oneOf", "allOf"):
            if name in given:
                if len(given) > 1:
                    raise wrong(place, f"beside {name} there may be nothing else")
                return self._combined(name, schema[name], place, depth)
        if "enum" in given or "const" in given:
            return self._listed(schema, given, place)
        kinds = self._kinds(schema, given, place)
        allowed = frozenset(("type",)).union(*(_OF_KIND.get(kind, ()) for kind in kinds))
        if unknown := sorted(given - allowed):
            raise wrong(place, f"{unknown[0]} is not known here")
        return self._choice([self._of_kind(kind, schema, place, depth) for kind in kinds])

    def _combined(self, name: str, given: Any, place: str, depth: int) -> tuple[str, Shape]:
        if name == "$ref":
            return self._reference(given, place, depth)
        if not isinstance(given, list) or not given:
            raise wrong(f"{place}/{name}", "it is no list of schemas")
        if name == "allOf" and len(given) > 1:
            raise wrong(place, "allOf of several is not known here")
        if len(given) > _MOST_CHOICES:
            raise TooLarge
        found = [self._value(one, f"{place}/{name}/{number}", depth + 1) for number, one in enumerate(given)]
        if name == "oneOf":
            self._single.append((place, [shape for _, shape in found]))
        return self._choice(found)

    def _choice(self, found: list[tuple[str, Shape]]) -> tuple[str, Shape]:
        names = dict(found)
        if len(names) == 1:
            return found[0]
        return self._grammar.rule(" | ".join(names)), self._shape(choices=list(names.values()))

    def _reference(self, given: Any, place: str, depth: int) -> tuple[str, Shape]:
        if not isinstance(given, str) or not (given == "#" or given.startswith("#/")):
            raise wrong(place, "a $ref must lead to a place within the schema")
        if given in self._references:
            return self._references[given]
        target: Any = self._root
        for part in given.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or name not in target:
                raise wrong(place, "its $ref leads nowhere")
            target = target[name]
        rule, shape = self._grammar.reserve(), self._shape()
        self._references[given] = (rule, shape)
        body, found = self._value(target, given, depth + 1)
        self._grammar.define(rule, body)
        shape.choices.append(found)  # whoever was led here meanwhile has the shape already
        return rule, shape

    def _listed(self, schema: Mapping[str, Any], given: Any, place: str) -> tuple[str, Shape]:
        if unknown := sorted(given - {"enum", "const", "type"}):
            raise wrong(place, f"{unknown[0]} beside enum or const is not known here")
        values = schema["enum"] if "enum" in given else [schema["const"]]
        if not isinstance(values, list) or ("enum" in given and "const" in given):
            raise wrong(place, "enum is a list, and not beside const")
        if len(values) > _MOST_CHOICES:
            raise wrong(place, f"enum has more than {_MOST_CHOICES} values")
        kinds = self._kinds(schema, given, place) if "type" in given else _KINDS
        values = [one for one in values if is_of(one, kinds)]
        if not values:
            raise wrong(place, "it allows nothing")
        try:
            texts = frozenset(map(json_text, values))
        except ValueError as error:
            raise wrong(place, "a value cannot be written") from error
        found = frozenset(kind for one in values for kind in _KINDS if kind != "integer" and is_of(one, (kind,)))
        rule = self._grammar.rule(self._grammar.one_of(texts))
        return rule, self._shape(kinds=found, texts=texts, own=self._grammar.widest)

    def _kinds(self, schema: Mapping[str, Any], given: Any, place: str) -> list[str]:
        kinds = schema.get("type")
        if kinds is None:  # what is said of objects only, say, is meant for objects
            kinds = [kind for kind in ("object", "array", "string", "number") if given & _OF_KIND[kind]]
            if len(kinds) != 1:
                raise wrong(place, f"{min(given)} without a type is not known here")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not isinstance(kinds, list) or not kinds or not all(kind in _KINDS for kind in kinds):
            raise wrong(place, "its type is not known")
        return [kind for kind in dict.fromkeys(kinds) if not (kind == "integer" and "number" in kinds)]

    def _of_kind(self, kind: str, schema: Mapping[str, Any], place: str, depth: int) -> tuple[str, Shape]:
        if kind == "object":
            return self._object(schema, place, depth)
        if kind == "array":
            return self._array(schema, place, depth)
        if kind == "string":
            return string_rule(self._grammar, schema, place), self._shape(kinds=frozenset(("string",)))
        if kind in ("number", "integer"):
            return number_rule(self._grammar, kind, schema, place), self._shape(kinds=frozenset(("number",)))
        return kind, self._shape(kinds=frozenset((kind,)))

    def _object(self, schema: Mapping[str, Any], place: str, depth: int) -> tuple[str, Shape]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, Mapping) or len(properties) > _MOST_MEMBERS:
            raise wrong(place, f"properties are an object, of at most {_MOST_MEMBERS}")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise wrong(place, "required is a list of names")
        if missing := [name for name in required if name not in properties]:
            raise wrong(place, f"{missing[0][:40]} is required, and not among the properties")
        if not properties:
            return self._map(schema.get("additionalProperties", True), place, depth)
        members: list[tuple[str, bool]] = []
        shapes: dict[str, Shape] = {}
        for name, one in properties.items():
            rule, shapes[name] = self._value(one, f"{place}/properties/{name}", depth + 1)
            try:
                key = literal(json_text(name))
            except ValueError as error:
                raise wrong(place, "a name cannot be written") from error
            members.append((self._grammar.rule(f'{key} ":" ws {rule}'), name in required))
        names = list(properties)
        first = next((number for number, (_, needed) in enumerate(members) if needed), None)
        runs, run = [1], 1
        for _, needed in members:
            run = 1 if needed else run + 1
            runs.append(run)
        return self._grammar.rule(f'"{{" ws {self._members(members)}'), self._shape(
            kinds=frozenset(("object",)),
            firsts=frozenset(names if first is None else names[: first + 1]),
            members={name: shape for name, shape in shapes.items() if name in required},
            first_required=names[0] if first == 0 else None,
            inner=list(shapes.values()),
            own=max(runs),
        )

    def _members(self, members: list[tuple[str, bool]]) -> str:
        """The rule of members in their order up to the brace: the last ones first, so that each leads to the next."""
        begun, fresh = 'ws "}"', '"}"'
        for rule, needed in reversed(members):
            begun_rule, fresh_rule = self._grammar.rule(begun), self._grammar.rule(fresh)
            begun = f'"," ws {rule} {begun_rule}' + ("" if needed else f" | {begun_rule}")
            fresh = f"{rule} {begun_rule}" + ("" if needed else f" | {fresh_rule}")
        return self._grammar.rule(fresh)

    def _map(self, values: Any, place: str, depth: int) -> tuple[str, Shape]:
        kinds = frozenset(("object",))
        if values is False:
            return self._grammar.rule('"{" ws "}"'), self._shape(kinds=kinds)
        if values is True:
            return "object", self._shape(kinds=kinds)
        rule, shape = self._value(values, f"{place}/additionalProperties", depth + 1)
        member = self._grammar.rule(f'string ":" ws {rule}')
        body = f'"{{" ws ( {member} ( "," ws {member} )* ws )? "}}"'
        return self._grammar.rule(body), self._shape(kinds=kinds, inner=[shape], own=2)

    def _array(self, schema: Mapping[str, Any], place: str, depth: int) -> tuple[str, Shape]:
        least, most = counts(schema, "minItems", "maxItems", place)
        kinds = frozenset(("array",))
        if most == 0:
            return self._grammar.rule('"[" ws "]"'), self._shape(kinds=kinds)
        rule, shape = self._value(schema.get("items", True), f"{place}/items", depth + 1)
        further = self._grammar.rule(f'"," ws {rule}')
        rest = self._grammar.repeated(further, max(0, least - 1), None if most is None else most - 1)
        body = f'"[" ws {rule} {rest} ws "]"' if least else f'"[" ws ( {rule} {rest} ws )? "]"'
        return self._grammar.rule(body), self._shape(kinds=kinds, inner=[shape], own=2)


OBJECT = "".join(f"{name} ::= {body}\n" for name, body in {"root": "object", **BASE}.items())
