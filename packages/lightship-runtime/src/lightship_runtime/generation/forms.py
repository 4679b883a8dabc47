"""What the forms of requests for text have in common: limits, and how a body becomes a request and its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from lightship_runtime.generation.calling import NO_TOOLS, Tools
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.request import Arguments, Finish, GenerationRequest, Piece, ToolCall
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


@dataclass(frozen=True)
class Text:
    """One text that has been written: what there is of it, calls of tools with all their arguments, and its end."""

    pieces: list[Piece]
    calls: list[ToolCall]
    finish: Finish


class Form(ABC):
    """How an answer is written, whole or in parts, as JSON. Its texts are numbered, from 0.

    Attributes:
        prompt: The member of the body that holds the prompt, for errors about it.
    """

    prompt: str = "prompt"

    def first(self, index: int) -> Iterator[bytes]:
        """Parts that go before the first piece of a text."""
        del index
        return iter(())

    @abstractmethod
    def piece(self, index: int, piece: Piece) -> bytes:
        """One part."""

    def call(self, index: int, call: ToolCall | Arguments) -> bytes:
        """One part that calls a tool, or goes on with the call: only for forms that take tools."""
        raise NotImplementedError

    @abstractmethod
    def last(self, index: int, finish: Finish) -> Iterator[bytes]:
        """Parts that go behind the last piece of a text."""

    def end(self, counts: Counts) -> Iterator[bytes]:
        """Parts that go behind all texts."""
        del counts
        return iter(())

    @abstractmethod
    def whole(self, texts: Sequence[Text], counts: Counts) -> bytes:
        """All in one."""


@dataclass(frozen=True)
class Asked:
    """What a body asks for, and how it is answered.

    Attributes:
        requests: One for each text. They are those of each prompt in turn, `choices` for each.
        streamed: Whether the answer shall come in parts.
        form: Of the answer.
        choices: Texts for each prompt.
        tools: What is to be made of calls that the model writes.
    """

    requests: tuple[GenerationRequest, ...]
    streamed: bool
    form: Form
    choices: int = 1
    tools: Tools = NO_TOOLS


def several(request: GenerationRequest, choices: int) -> tuple[GenerationRequest, ...]:
    """A request for each of several texts; each has a seed of its own, so that they differ and can be had again."""
    if request.seed is None:
        return (request,) * choices
    return tuple(msgspec.structs.replace(request, seed=request.seed + number) for number in range(choices))


def stops(given: str | list[str] | None) -> tuple[str, ...]:
    """Stop texts, given as one or several."""
    if given is None or given == "":
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


@dataclass(frozen=True)
class Counts:
    """Tokens: of the prompts, each counted once, and of all texts."""

    prompt_tokens: int
    completion_tokens: int


def usage(counts: Counts | Finish) -> dict[str, int]:
    """The counts of tokens, in OpenAI's words."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
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
