"""Calls of tools that a model has to write, because its engine keeps the text to their schema.

The text is `{"name": "tide", "arguments": {...}}` and nothing else: the arguments can be sent on as they come.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lightship_runtime.generation.request import Arguments, Piece, ToolCall

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([A-Za-z0-9_.-]{1,64})"\s*,\s*"arguments"\s*:\s*')
_NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


def call_schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The schema of a call of one of these functions; `$defs` of their own are found below its own names."""
    calls: list[dict[str, Any]] = []
    shared: dict[str, Any] = {}
    for number, tool in enumerate(tools):
        function = tool["function"]
        parameters = function.get("parameters") or _NOTHING
        place = f"{number}"
        shared[place] = _moved(parameters, f"#/$defs/{place}")
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "arguments": {"$ref": f"#/$defs/{place}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), "$defs": shared}


def _moved(schema: Any, root: str) -> Any:
    """A schema whose references within itself are to where it is now."""
    if isinstance(schema, list):
        return [_moved(one, root) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {}
    for name, value in schema.items():
        if name == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/")):
            moved[name] = root + value[1:]
        elif name in ("const", "enum", "default", "examples"):
            moved[name] = value
        else:
            moved[name] = _moved(value, root)
    return moved


class Forced:
    """Reads one call, and gives its arguments in pieces. What is no call is text as it stands."""

    def __init__(self) -> None:
        self._held = ""
        self._depth = 0  # of the arguments: open braces and brackets
        self._quoted = self._escaped = self._ended = False
        self.made = 0

    @property
    def enough(self) -> bool:
        return self._ended

    def feed(self, piece: Piece) -> list[Piece | ToolCall | Arguments]:
        """What may be sent now that this piece has come."""
        self._held += piece.text
        found: list[Piece | ToolCall | Arguments] = []
        if not self.made:
            head = _HEAD.match(self._held)
            if head is None or head.end() == len(self._held):
                return []  # spaces may still follow, which are none of the arguments
            self._held = self._held[head.end() :]
            self.made = 1
            found.append(ToolCall(head[1], ""))
        text, self._held = self._within(self._held), ""
        return [*found, Arguments(text)] if text else found

    def rest(self) -> list[Piece | ToolCall | Arguments]:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return [Piece(held, 0)] if held and not self.made else []

    def _within(self, text: str) -> str:
        """What of a text belongs to the arguments."""
        if self._ended:
            return ""
        for place, one in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = one == "\\", one != '"'
            elif one == '"':
                self._quoted = True
            elif one in "{[":
                self._depth += 1
            elif one in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._ended = True
                    return text[: place + 1]
        return text
