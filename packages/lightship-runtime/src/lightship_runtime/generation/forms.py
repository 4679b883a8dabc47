"""What the forms of requests for text have in common: limits, and how a body becomes a request and its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece, ToolCall
from lightship_runtime.payload.call import RequestError

STOPS = 16  # texts; OpenAI takes 4
LONGEST_STOP = 256  # characters
Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_STOP)]
Stops = Annotated[list[Stop], msgspec.Meta(max_length=STOPS)]


@dataclass(frozen=True)
class Identity:
    """What distinguishes one answer from another.

    Attributes:
        name: Of the model.
        number: Without a meaning, different for each answer.
        created: Seconds since 1970.
    """

    name: str
    number: str
    created: int


class Form(ABC):
    """How one answer is written, whole or in parts, as JSON.

    Attributes:
        prompt: The member of the body that holds the prompt, for errors about it.
    """

    prompt: str = "prompt"

    def first(self) -> Iterator[bytes]:
        """Parts that go before the first piece."""
        return iter(())

    @abstractmethod
    def piece(self, piece: Piece) -> bytes:
        """One part."""

    def call(self, call: ToolCall) -> bytes:
        """One part that calls a tool: only for forms that take tools."""
        raise NotImplementedError

    @abstractmethod
    def last(self, finish: Finish) -> Iterator[bytes]:
        """Parts that go behind the last piece."""

    @abstractmethod
    def whole(self, pieces: list[Piece], finish: Finish, calls: list[ToolCall]) -> bytes:
        """All in one; `calls` only in forms that take tools."""


@dataclass(frozen=True)
class Asked:
    """What a body asks for, and how it is answered."""

    request: GenerationRequest
    streamed: bool
    form: Form


def stops(given: str | list[str] | None) -> tuple[str, ...]:
    """Stop texts, given as one or several."""
    if given is None or given == "":
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def usage(finish: Finish) -> dict[str, int]:
    """The counts of tokens, in OpenAI's words."""
    return {
        "prompt_tokens": finish.prompt_tokens,
        "completion_tokens": finish.completion_tokens,
        "total_tokens": finish.prompt_tokens + finish.completion_tokens,
    }


def fitting(request: GenerationRequest, engine: GenerationEngine, param: str) -> tuple[GenerationRequest, int]:
    """The request with a bound on its tokens, and how many its prompt has. Raises RequestError where none fits."""
    context = engine.context
    if sum(map(len, _texts(request))) > context * _LONGEST_TOKEN:
        raise _too_long(f"it is far longer than {context} tokens", param)
    prompt = engine.prompt_tokens(request)
    if prompt >= context:
        raise _too_long(f"the model's context has {context} tokens, the prompt alone {prompt}", param)
    wanted = request.max_tokens
    if wanted is not None and prompt + wanted > context:
        raise _too_long(
            f"the model's context has {context} tokens; the prompt has {prompt}, and {wanted} are asked for", param
        )
    return msgspec.structs.replace(request, max_tokens=wanted or context - prompt), prompt


_LONGEST_TOKEN = 512  # characters; vocabularies have runs of spaces or dashes of up to 256


def _texts(request: GenerationRequest) -> Iterator[str]:
    if request.prompt is not None:
        yield request.prompt
    for message in request.messages or ():
        content = message.get("content")
        if isinstance(content, str):
            yield content


def _too_long(why: str, param: str) -> RequestError:
    return RequestError(f"The prompt is too long: {why}.", param=param, code="context_length_exceeded")
