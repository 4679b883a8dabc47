"""The tools of a conversation and whether the model may, must or must not call them: `tools` and `tool_choice`.

    "auto", "none", "required"
    {"type": "function", "function": {"name": "tide"}}
    {"type": "allowed_tools", "allowed_tools": {"mode": "auto" or "required", "tools": [{"type": "function", ...}]}}

What it must call is held to a schema, where the engine keeps to schemas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from lightship_runtime.generation.calling import NO_TOOLS, Tools
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forcing import call_schema
from lightship_runtime.payload.call import RequestError
from lightship_runtime.payload.openai_bodies import neutral, unsupported

_PARAM = "tool_choice"


class Function(msgspec.Struct, forbid_unknown_fields=True):
    """A function that the model may ask for."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """A tool; there are no others than functions."""

    type: Literal["function"]
    function: Function


class _Name(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class _Named(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="function"):
    function: _Name


class _Listed(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[_Named], msgspec.Meta(min_length=1)]


class _Allowed(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="allowed_tools"):
    allowed_tools: _Listed


@dataclass(frozen=True)
class Offer:
    """What a model is offered.

    Attributes:
        tools: For its chat template.
        reading: What is made of the calls that it writes.
        schema: That its text is kept to; None where it may write what it likes.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    reading: Tools = NO_TOOLS
    schema: Mapping[str, Any] | None = None


def offered(tools: Sequence[Tool], choice: Any, parallel: bool | None, engine: GenerationEngine) -> Offer:
    """What these members come to. Raises RequestError."""
    mode, names = _chosen(choice)
    if mode == "none" or (not tools and mode == "auto" and names is None):
        return Offer()
    known = {tool.function.name for tool in tools}
    if names is not None and not names <= known:
        raise RequestError(
            "Invalid 'tool_choice': it names a function that is not in 'tools'.", param=_PARAM, code="invalid_value"
        )
    if not tools:
        raise RequestError("Invalid 'tool_choice': it needs 'tools'.", param=_PARAM, code="invalid_value")
    if not engine.tools:
        raise unsupported("tools", "This model's chat template has no place for them.")
    if mode != "auto" and "json_schema" not in engine.response_formats:
        raise unsupported(_PARAM, "This model's engine keeps to no schema, so that the model chooses: auto or none.")
    shown = tuple(_plain(tool) for tool in tools if names is None or tool.function.name in names)
    found = frozenset(str(tool["function"]["name"]) for tool in shown)
    if mode == "auto":
        return Offer(shown, Tools(found, 1 if parallel is False else None))
    return Offer(shown, Tools(found, 1, forced=True, chosen=mode == "named"), call_schema(shown))


def _chosen(choice: Any) -> tuple[Literal["auto", "none", "required", "named"], set[str] | None]:
    """What `tool_choice` says, and the functions that it names; None where it names none."""
    if neutral(choice, "auto"):
        return "auto", None
    if choice in ("none", "required"):
        return choice, None
    try:
        given = msgspec.convert(choice, _Named | _Allowed)
    except msgspec.ValidationError as error:
        raise RequestError(
            "Invalid 'tool_choice': auto, none, required, or a function by its name.",
            param=_PARAM,
            code="invalid_value",
        ) from error
    if isinstance(given, _Named):
        return "named", {given.function.name}
    return given.allowed_tools.mode, {one.function.name for one in given.allowed_tools.tools}


def _plain(tool: Tool) -> Mapping[str, Any]:
    """A tool as chat templates read it."""
    made = msgspec.to_builtins(tool)
    return {**made, "function": {name: value for name, value in made["function"].items() if value is not None}}
