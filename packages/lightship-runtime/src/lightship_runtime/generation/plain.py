"""GET and POST /generate: the shortest way to ask for text.

    GET /generate?prompt=Once%20upon%20a%20time&max_tokens=40&stream=true
    POST /generate {"prompt": "...", "max_tokens": 40, "temperature": 0, "stop": ["\\n"], "seed": 1, "stream": false}
    {"text": "...", "finish_reason": "length", "usage": {"prompt_tokens": 4, "completion_tokens": 40, ...}}

In parts each is {"text": "..."}; the last one has the rest as well. Instead of `prompt` there may be `messages`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from lightship_runtime.generation.engine import DEFAULT_TOKENS, GenerationEngine
from lightship_runtime.generation.forms import Asked, Counts, Form, Identity, Stop, Stops, Text, stops, usage
from lightship_runtime.generation.request import (
    Finish,
    GenerationRequest,
    Penalty,
    Piece,
    Seed,
    Share,
    Temperature,
    Tokens,
    TopK,
)
from lightship_runtime.payload.call import Call, RequestError
from lightship_runtime.payload.openai_bodies import invalid, read

_MOST_FIELDS = 32  # of a query


class _Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: str | None = None
    messages: list[dict[str, str]] | None = None
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: TopK | None = None
    repetition_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stop | Stops | None = None
    stream: bool | None = None


def parse_plain(call: Call, engine: GenerationEngine, identity: Identity) -> Asked:
    """What a body or a query asks for. Raises RequestError."""
    del identity
    body = read(call.body, _Body) if call.body else _queried(call.query)
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("One of prompt and messages is needed.")
    if body.messages is not None:
        if not engine.chats:
            raise RequestError("This model has no chat template. Send a prompt.")
        if not all({"role", "content"} == one.keys() for one in body.messages) or not body.messages:
            raise RequestError("Every message has a role and a content.")
    request = GenerationRequest(
        prompt=body.prompt,
        messages=tuple(body.messages) if body.messages is not None else None,
        max_tokens=body.max_tokens or DEFAULT_TOKENS,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        repetition_penalty=body.repetition_penalty,
        stop=stops(body.stop),
        seed=body.seed,
    )
    return Asked((request,), bool(body.stream), Plain("messages" if body.messages else "prompt"))


def _queried(query: str) -> _Body:
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise RequestError("The query cannot be read.") from error
    given: dict[str, Any] = {}
    for name, value in fields:
        if name == "stop":
            given.setdefault("stop", []).append(value)
        elif name in given:
            raise RequestError("A parameter is there twice.")
        else:
            given[name] = value
    if given.get("messages") is not None:
        raise RequestError("Messages are sent with POST.")
    prompt = given.pop("prompt", None)  # by itself: the text "null" is a prompt as any other
    try:
        body = msgspec.convert(given, _Body, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    numbers = (body.temperature, body.top_p, body.repetition_penalty)
    if not all(math.isfinite(number) for number in numbers if number is not None):
        raise RequestError("A number is none.")
    body.prompt = prompt
    return body


class Plain(Form):
    """Writes texts."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt

    def piece(self, index: int, piece: Piece) -> bytes:
        return msgspec.json.encode({"text": piece.text})

    def last(self, index: int, finish: Finish) -> Iterator[bytes]:
        yield self._ended("", finish, finish)

    def whole(self, texts: Sequence[Text], counts: Counts) -> bytes:
        (text,) = texts
        return self._ended("".join(piece.text for piece in text.pieces), text.finish, counts)

    def _ended(self, text: str, finish: Finish, counts: Counts | Finish) -> bytes:
        return msgspec.json.encode({"text": text, "finish_reason": finish.reason, "usage": usage(counts)})
