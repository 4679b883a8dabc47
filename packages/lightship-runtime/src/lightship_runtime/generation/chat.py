"""POST /v1/chat/completions, OpenAI's form: the next message of a conversation.

    {"messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 64, "stream": false}
    {"id": "chatcmpl-...", "object": "chat.completion", "created": 1700000000, "model": "...",
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "..."}, "finish_reason": "stop"}],
     "usage": {...}}

Contents are texts, or lists of parts of text. Tools are given to the model's chat template where it has a place for
them; what the model writes is its message's content, but for calls of these tools, which are `tool_calls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec

from lightship_runtime.generation.completions import check_logprobs
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forms import Asked, Counts, Form, Identity, Text, several, usage
from lightship_runtime.generation.offering import Offer, Tool, offered
from lightship_runtime.generation.request import (
    Arguments,
    Finish,
    GenerationRequest,
    Piece,
    TokenLogprob,
    Tokens,
    ToolCall,
)
from lightship_runtime.generation.sampling import Ignored, Sampling, ServiceTier
from lightship_runtime.payload.call import Call, RequestError
from lightship_runtime.payload.openai_bodies import check_model, neutral, read, unsupported

_MOST_MESSAGES = 10_000
_MOST_TOOLS = 128  # as OpenAI's


class _Called(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _ToolCall(msgspec.Struct):
    function: _Called
    id: str | None = None
    type: Literal["function"] = "function"


class _Message(msgspec.Struct, kw_only=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


class _Schema(msgspec.Struct):
    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Body(Sampling, kw_only=True):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1, max_length=_MOST_MESSAGES)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], msgspec.Meta(max_length=_MOST_TOOLS)] | None = None
    tool_choice: Any = None
    response_format: _Format | None = None
    modalities: list[str] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None
    moderation: Any = None
    parallel_tool_calls: bool | None = None
    # These change nothing of the answer.
    prediction: Ignored = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: ServiceTier | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None


def parse_chat(call: Call, engine: GenerationEngine, identity: Identity) -> Asked:
    """What a body asks for. Raises RequestError."""
    body = read(call.body, _Body)
    check_model(body.model, identity.name)
    if not engine.chats:
        raise RequestError("This model has no chat template. Use /v1/completions.", param="messages")
    body.check(engine)
    _check(body, engine)
    offer = offered(body.tools or (), body.tool_choice, body.parallel_tool_calls, engine)
    request = GenerationRequest(
        messages=tuple(_message(one, number) for number, one in enumerate(body.messages)),
        tools=offer.tools,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        **_format(body, offer),
        **body.sampling(),
    )
    choices = body.n or 1
    form = Chat(identity, choices, counted=body.usage)
    return Asked(several(request, choices), bool(body.stream), form, choices, offer.reading)


def _format(body: _Body, offer: Offer) -> dict[str, Any]:
    """What the text is kept to: the call of a tool that has to be, else what is asked for."""
    if offer.schema is not None:
        return {"response_format": "json_schema", "schema": offer.schema}
    form = body.response_format
    if form is None:
        return {}
    return {"response_format": form.type, "schema": form.json_schema.schema if form.json_schema else None}


def _check(body: _Body, engine: GenerationEngine) -> None:
    for name in ("audio", "functions", "web_search_options", "moderation"):
        if not neutral(getattr(body, name)):
            raise unsupported(name, "This server does not have it.")
    if not neutral(body.function_call, "none"):
        raise unsupported("function_call", "Use tools.")
    if not neutral(body.modalities, ["text"]):
        raise unsupported("modalities", "Answers are texts.")
    if body.logprobs:
        check_logprobs("logprobs" if not body.top_logprobs else "top_logprobs", body.top_logprobs or 0, engine)
    elif body.top_logprobs:
        raise RequestError(
            "Invalid 'top_logprobs': it is only for logprobs = true.", param="top_logprobs", code="invalid_value"
        )
    form = body.response_format
    if form is not None and form.type != "text" and form.type not in engine.response_formats:
        raise unsupported("response_format", f"This model's engine cannot keep to {form.type}.")
    if form is not None and form.type == "json_schema" and (form.json_schema is None or not form.json_schema.schema):
        raise RequestError(
            "Missing required parameter: 'response_format.json_schema.schema'.",
            param="response_format.json_schema.schema",
            code="missing_required_parameter",
        )


def _message(message: _Message, number: int) -> dict[str, Any]:
    """A message as chat templates read it."""
    made: dict[str, Any] = {"role": message.role, "content": _content(message.content, number)}
    if message.name is not None:
        made["name"] = message.name
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        made["tool_calls"] = [_call(one) for one in message.tool_calls]
    elif message.content is None:
        raise RequestError(
            f"Missing required parameter: 'messages[{number}].content'.",
            param=f"messages[{number}].content",
            code="missing_required_parameter",
        )
    return made


def _content(content: str | list[dict[str, Any]] | None, number: int) -> str:
    if not isinstance(content, list):
        return content or ""
    texts = []
    for place, part in enumerate(content):
        text = part.get("text") if part.get("type") == "text" else None
        if not isinstance(text, str):
            raise RequestError(
                f"Invalid 'messages[{number}].content[{place}]': contents are texts.",
                param=f"messages[{number}].content[{place}]",
                code="invalid_value",
            )
        texts.append(text)
    return "".join(texts)


def _call(call: _ToolCall) -> dict[str, Any]:
    """A call of a tool; its arguments, a JSON text with OpenAI, are an object for templates."""
    try:
        arguments = msgspec.json.decode(call.function.arguments)
    except (msgspec.DecodeError, RecursionError):
        arguments = call.function.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


class Chat(Form):
    """Writes messages. `counted` says whether usage ends the parts."""

    prompt = "messages"

    def __init__(self, identity: Identity, choices: int, *, counted: bool) -> None:
        self._head = {
            "id": f"chatcmpl-{identity.number}",
            "object": "chat.completion",
            "created": identity.created,
            "model": identity.name,
        }
        self._chunk = {**self._head, "object": "chat.completion.chunk"}
        self._counted = counted
        self._number = identity.number
        self._called = [0] * choices

    def first(self, index: int) -> Iterator[bytes]:
        yield self._part(index, {"role": "assistant", "content": "", "refusal": None}, None, None)

    def piece(self, index: int, piece: Piece) -> bytes:
        return self._part(index, {"content": piece.text}, _logprobs([piece]), None)

    def last(self, index: int, finish: Finish) -> Iterator[bytes]:
        yield self._part(index, {}, None, finish.reason)

    def end(self, counts: Counts) -> Iterator[bytes]:
        if self._counted:
            yield msgspec.json.encode({**self._chunk, "choices": [], "usage": usage(counts)})

    def call(self, index: int, call: ToolCall | Arguments) -> bytes:
        """Which one it is stands in every part, its id and its name in the first one only."""
        if isinstance(call, ToolCall):
            delta = {"index": self._called[index], **self._written(index, call)}
        else:
            delta = {"index": self._called[index] - 1, "function": {"arguments": call.text}}
        return self._part(index, {"tool_calls": [delta]}, None, None)

    def whole(self, texts: Sequence[Text], counts: Counts) -> bytes:
        choices = []
        for index, text in enumerate(texts):
            said = "".join(piece.text for piece in text.pieces)
            message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": None}
            if text.calls:
                message["content"] = said or None
                message["tool_calls"] = [self._written(index, call) for call in text.calls]
            logprobs, reason = _logprobs(text.pieces), text.finish.reason
            choices.append({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
        return msgspec.json.encode({**self._head, "choices": choices, "usage": usage(counts)})

    def _written(self, index: int, call: ToolCall) -> dict[str, Any]:
        number = f"call_{self._number[:20]}{index:02d}{self._called[index]:04d}"
        self._called[index] += 1
        return {"id": number, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

    def _part(self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None, reason: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        part: dict[str, Any] = {**self._chunk, "choices": [choice]}
        if self._counted:
            part["usage"] = None
        return msgspec.json.encode(part)


def _logprobs(pieces: list[Piece]) -> dict[str, Any] | None:
    found = [_logprob(one) for piece in pieces for one in piece.logprobs or ()]
    return {"content": found, "refusal": None} if found else None


def _logprob(one: TokenLogprob) -> dict[str, Any]:
    return {
        "token": one.token,
        "logprob": one.logprob,
        "bytes": list(one.token.encode()),
        "top_logprobs": [
            {"token": token, "logprob": logprob, "bytes": list(token.encode())} for token, logprob in one.top
        ],
    }
