"""Schemas of what models that write are asked and answer: /generate, /v1/completions, and what chats share with them.

Only members that do something are listed, and of these only what the model at hand can. OpenAI's others are taken
where they change nothing, and refused where they would.
"""

from __future__ import annotations

from typing import Any

from lightship_runtime.pages.schema import Schema, ref
from lightship_runtime.pages.settings import PageSettings

_LARGEST = (1 << 63) - 1
SAMPLING: dict[str, Schema] = {
    "temperature": {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 2,
        "description": "How much is left to chance; 0 takes the likeliest token each time.",
    },
    "top_p": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "Only the likeliest tokens that have this probability together are taken.",
    },
    "top_k": {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": 1 << 20,
        "description": "Only so many of the likeliest tokens are taken; 0 for no bound.",
    },
    "repetition_penalty": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "maximum": 10,
        "description": "More than 1 makes tokens unlikely that are there already.",
    },
    "seed": {
        "type": ["integer", "null"],
        "minimum": -_LARGEST - 1,
        "maximum": _LARGEST,
        "description": "Equal seeds give equal texts, where the engine can.",
    },
}
_TEXTS = 8  # in one answer
_HEEDED: dict[str, Schema] = {
    "presence_penalty": {
        "type": ["number", "null"],
        "minimum": -2,
        "maximum": 2,
        "description": "More than 0 makes tokens unlikely that are there already.",
    },
    "frequency_penalty": {
        "type": ["number", "null"],
        "minimum": -2,
        "maximum": 2,
        "description": "More than 0 makes tokens the less likely the more often they are there already.",
    },
    "logit_bias": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[0-9]{1,9}$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        "maxProperties": 1024,
        "description": "What to add to the scores of tokens, by their number in the model's vocabulary.",
    },
}
_STOP: Schema = {"type": "string", "minLength": 1, "maxLength": 256}
STOPS: Schema = {
    "anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": 16}, {"type": "null"}],
    "description": "Texts before which the answer ends.",
}
STREAM: Schema = {"type": ["boolean", "null"], "description": "Whether to answer in parts, as server-sent events."}
STREAM_OPTIONS: Schema = {
    "type": ["object", "null"],
    "properties": {"include_usage": {"type": ["boolean", "null"]}},
    "description": "For parts: whether they end with the counts of tokens.",
}
USAGE: Schema = {
    "type": "object",
    "properties": {
        name: {"type": "integer", "minimum": 0} for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    },
    "required": ["prompt_tokens", "total_tokens"],
    "description": "How many tokens were read and written.",
}
_REASON: Schema = {
    "enum": ["stop", "length", "tool_calls"],
    "description": "Whether the model came to an end, to `max_tokens`, or to a call of a tool.",
}
_LOGPROBS: Schema = {"type": ["object", "null"], "description": "Log probabilities of the tokens, where asked for."}


def writing(settings: PageSettings) -> dict[str, Schema]:
    """The schemas of a model that writes."""
    return {
        "GenerateRequest": record(
            "A prompt" + (", or messages," if settings.chats else "") + " and how to go on from it.",
            {
                "prompt": {"type": "string", "description": "The text to go on from."},
                **({"messages": messages(ref("PlainMessage"))} if settings.chats else {}),
                "max_tokens": token_count("The most tokens to write; 256 where nothing is said."),
                **SAMPLING,
                "stop": STOPS,
                "stream": STREAM,
            },
            () if settings.chats else ("prompt",),
        ),
        "GenerateAnswer": record(
            "The text that follows.",
            {"text": {"type": "string"}, "finish_reason": _REASON, "usage": ref("Usage")},
            ("text", "finish_reason", "usage"),
        ),
        "Usage": USAGE,
        "CompletionRequest": record(
            "A prompt, and how to go on from it.",
            {
                "model": model_name(settings),
                "prompt": {
                    "anyOf": [
                        {"type": "string"},
                        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": _TEXTS},
                    ],
                    "description": "The text to go on from, or several; 8 texts in all.",
                },
                "max_tokens": token_count("The most tokens to write; 16 where nothing is said."),
                **SAMPLING,
                **sampling_of(settings),
                "stop": STOPS,
                "stream": STREAM,
                "stream_options": STREAM_OPTIONS,
                "echo": {"type": ["boolean", "null"], "description": "Whether the answer begins with the prompt."},
                **alternatives("logprobs", settings, 5),
            },
            ("prompt",),
        ),
        "Completion": completion("text_completion", {"text": {"type": "string"}}),
    }


def completion(kind: str, choice: dict[str, Schema]) -> Schema:
    """What a model has written, in OpenAI's form; `choice` are the members that hold it."""
    made = record(
        "One of the texts.",
        {
            "index": {"type": "integer", "minimum": 0, "maximum": _TEXTS - 1},
            **choice,
            "logprobs": _LOGPROBS,
            "finish_reason": _REASON,
        },
        ("index", *choice, "finish_reason"),
    )
    return record(
        "What the model has written.",
        {
            "id": {"type": "string"},
            "object": {"const": kind},
            "created": {"type": "integer", "description": "Seconds since 1970."},
            "model": {"type": "string"},
            "choices": {"type": "array", "items": made, "minItems": 1, "maxItems": _TEXTS},
            "usage": ref("Usage"),
        },
        ("id", "object", "created", "model", "choices", "usage"),
    )


def sampling_of(settings: PageSettings) -> dict[str, Schema]:
    """Members that only OpenAI's forms have, as far as the engine heeds them."""
    many: Schema = {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": _TEXTS,
        "description": "How many texts to write.",
    }
    return {"n": many, **{name: schema for name, schema in _HEEDED.items() if name in settings.heeds}}


def record(description: str, properties: dict[str, Any], required: tuple[str, ...]) -> Schema:
    """An object with these members."""
    made: Schema = {"type": "object", "description": description, "properties": properties}
    return {**made, "required": list(required)} if required else made


def model_name(settings: PageSettings) -> Schema:
    """The member `model`."""
    return {"enum": [settings.model, None], "description": "The model's name; may be left out."}


def token_count(description: str) -> Schema:
    """A number of tokens."""
    return {"type": ["integer", "null"], "minimum": 1, "maximum": 1 << 30, "description": description}


def messages(items: Schema) -> Schema:
    """A conversation."""
    return {"type": "array", "items": items, "minItems": 1, "maxItems": 10_000, "description": "What was said."}


def alternatives(name: str, settings: PageSettings, most: int) -> dict[str, Schema]:
    """The member that asks for alternatives to each token, where the engine gives any."""
    if settings.most_logprobs is None:
        return {}
    words = "How many alternatives to give for each token, with their log probabilities."
    bound = min(most, settings.most_logprobs)
    return {name: {"type": ["integer", "null"], "minimum": 0, "maximum": bound, "description": words}}
