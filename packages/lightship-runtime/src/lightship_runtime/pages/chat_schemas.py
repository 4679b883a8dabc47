"""Schemas of conversations: messages, tools, and what /v1/chat/completions is asked and answers."""

from __future__ import annotations

from lightship_runtime.pages.schema import Schema, ref
from lightship_runtime.pages.settings import PageSettings
from lightship_runtime.pages.text_schemas import (
    SAMPLING,
    STOPS,
    STREAM,
    STREAM_OPTIONS,
    alternatives,
    completion,
    messages,
    model_name,
    record,
    sampling_of,
    token_count,
)

_CONTENT: Schema = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
            },
        },
        {"type": "null"},
    ],
    "description": "A text, or parts of one.",
}
_TOOL: Schema = {
    "type": "object",
    "description": "A function that the model may ask for.",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
                "description": {"type": "string"},
                "parameters": {"type": "object", "description": "The JSON schema of its arguments."},
            },
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
}
_NAME: Schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_TOOL_CALL: Schema = {
    "type": "object",
    "description": "A function that the model asks for.",
    "properties": {
        "id": {"type": ["string", "null"]},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "arguments": {"type": "string", "description": "An object, as JSON."},
            },
            "required": ["name"],
        },
    },
    "required": ["function"],
}


def _choice(forced: bool) -> Schema:
    """The member `tool_choice`; `forced` where the engine can hold a text to a call."""
    words = "Whether the model may call tools; none hides them from it."
    if not forced:
        return {"enum": ["auto", "none", None], "description": words}
    named = record(
        "The tool that it must call.", {"type": {"const": "function"}, "function": _NAME}, ("type", "function")
    )
    return {"anyOf": [{"enum": ["auto", "none", "required", None]}, named], "description": words}


def chatting(settings: PageSettings) -> dict[str, Schema]:
    """The schemas of a model that chats, beside those of one that writes."""
    called: dict[str, Schema] = {}
    given: dict[str, Schema] = {}
    parts: dict[str, Schema] = {}
    if settings.tools:
        parts = {"Tool": _TOOL, "ToolCall": _TOOL_CALL}
        words = "What the model asks for."
        called = {"tool_calls": {"type": "array", "items": ref("ToolCall"), "description": words}}
        given = {
            "tools": {"type": ["array", "null"], "items": ref("Tool"), "maxItems": 128},
            "tool_choice": _choice("json_schema" in settings.response_formats),
            "parallel_tool_calls": {
                "type": ["boolean", "null"],
                "description": "Whether there may be several calls in one message.",
            },
        }
    if settings.response_formats:
        given["response_format"] = {
            "type": ["object", "null"],
            "properties": {
                "type": {"enum": ["text", *settings.response_formats]},
                "json_schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "schema": {"type": "object"}},
                    "required": ["name", "schema"],
                },
            },
            "required": ["type"],
            "description": "What the answer must be.",
        }
    if settings.most_logprobs is not None:
        given["logprobs"] = {"type": ["boolean", "null"], "description": "Whether to give log probabilities."}
    roles = ["system", "developer", "user", "assistant", *(["tool"] if settings.tools else [])]
    return {
        **parts,
        "Message": record(
            "What somebody has said.",
            {
                "role": {"enum": roles},
                "content": _CONTENT,
                "name": {"type": ["string", "null"]},
                **called,
                **({"tool_call_id": {"type": ["string", "null"]}} if settings.tools else {}),
            },
            ("role",) if settings.tools else ("role", "content"),
        ),
        "PlainMessage": {
            **record(
                "What somebody has said.",
                {"role": {"type": "string"}, "content": {"type": "string"}},
                ("role", "content"),
            ),
            "additionalProperties": False,
        },
        "ChatRequest": record(
            "A conversation, and how to go on with it.",
            {
                "model": model_name(settings),
                "messages": messages(ref("Message")),
                "max_completion_tokens": token_count(
                    "The most tokens to write; as many as fit where nothing is said."
                ),
                "max_tokens": token_count("The same by its old name."),
                **SAMPLING,
                **sampling_of(settings),
                "stop": STOPS,
                "stream": STREAM,
                "stream_options": STREAM_OPTIONS,
                **given,
                **alternatives("top_logprobs", settings, 20),
            },
            ("messages",),
        ),
        "ChatCompletion": completion(
            "chat.completion",
            {
                "message": record(
                    "The next message.",
                    {
                        "role": {"const": "assistant"},
                        "content": {"type": ["string", "null"]},
                        "refusal": {"type": "null"},
                        **called,
                    },
                    ("role", "content"),
                )
            },
        ),
    }
