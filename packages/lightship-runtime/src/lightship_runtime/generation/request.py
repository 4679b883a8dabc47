"""What is asked of a model that writes text, and the pieces of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

Tokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 30)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]  # as OpenAI's
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
TopK = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]  # 0 for no bound
Penalty = Annotated[float, msgspec.Meta(gt=0, le=10)]
Seed = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
FinishReason = Literal["stop", "length", "tool_calls", "error"]
ResponseFormat = Literal["text", "json_object", "json_schema"]


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One text to be written. Exactly one of `prompt` and `messages` is set.

    Attributes:
        prompt: The text to go on from, as it is.
        messages: A conversation, to which the model's chat template is applied; each with `role` and `content`.
        tools: Functions that the model may ask for, in OpenAI's form; for the chat template.
        max_tokens: The most tokens to write; None for as many as fit the context.
        temperature: None for the model's own setting; 0 is greedy.
        top_p: None for the model's own setting.
        top_k: None for the model's own setting.
        repetition_penalty: None for the model's own setting.
        presence_penalty: As OpenAI's; None for none. Only for engines that say they heed it, as the next two.
        frequency_penalty: Likewise.
        logit_bias: What to add to the scores of tokens, by their number in the model's vocabulary.
        stop: Texts before which the answer ends. The server sees to them; an engine may end earlier for them.
        seed: Equal seeds give equal texts, where the engine can.
        logprobs: How many alternatives to give with each token's log probability; None for no probabilities.
        response_format: "json_object" or "json_schema" only for engines that say they can.
        schema: The JSON schema of "json_schema".
    """

    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: TopK | None = None
    repetition_penalty: Penalty | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    stop: tuple[str, ...] = ()
    seed: Seed | None = None
    logprobs: int | None = None
    response_format: ResponseFormat = "text"
    schema: Mapping[str, Any] | None = None


class TokenLogprob(msgspec.Struct, frozen=True):
    """The natural logarithm of a token's probability, and those of the likeliest in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Piece(msgspec.Struct, frozen=True):
    """Some more text. It may be empty: a token can be half a character.

    Attributes:
        text: Of the piece.
        tokens: That the piece is made of.
        logprobs: One for each token, where they were asked for.
    """

    text: str
    tokens: int = 1
    logprobs: tuple[TokenLogprob, ...] | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A function that the model asks for; its arguments are a JSON object, as it has written it."""

    name: str
    arguments: str


class Arguments(msgspec.Struct, frozen=True):
    """Some more of the arguments of the call before it."""

    text: str


class Finish(msgspec.Struct, frozen=True):
    """The end of a text, and why it ended."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
