"""What fits into a model's context: a prompt that is worth to be made tokens of, and an answer beside it."""

from __future__ import annotations

from lightship_runtime.generation.request import GenerationRequest
from lightship_runtime.payload.call import RequestError

_LONGEST_TOKEN = 128  # characters; the longest in the vocabularies of today are that many spaces


def fitting(text: str, context: int) -> str:
    """The text, if it could fit. Raises RequestError for one that cannot, however it is made tokens of.

    Tokenizers take seconds and hundreds of bytes for each token of such a text: 33 million took 47 s and 2.5 GB.
    """
    if len(text) > context * _LONGEST_TOKEN:
        raise RequestError(
            f"The model's context has {context} tokens; a prompt of {len(text)} characters cannot fit.",
            param="prompt",
            code="context_length_exceeded",
        )
    return text


def tokens_to_write(request: GenerationRequest, prompt: int, context: int) -> int:
    """The most tokens to write after a prompt of so many. Raises RequestError where there is no room for them."""
    if prompt == 0:
        raise RequestError("The prompt is empty, and this model begins no text by itself.", param="prompt")
    room = context - prompt
    most = room if request.max_tokens is None else request.max_tokens
    if room < 1 or most > room:
        raise RequestError(
            f"The model's context has {context} tokens; the prompt has {prompt}, and {max(most, 1)} are asked for.",
            param="max_tokens",
            code="context_length_exceeded",
        )
    return most
