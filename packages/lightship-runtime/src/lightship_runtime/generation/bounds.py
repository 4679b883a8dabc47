"""How many tokens an answer may have: what is asked for must fit into the context beside the prompt."""

from __future__ import annotations

from lightship_runtime.generation.request import GenerationRequest
from lightship_runtime.payload.call import RequestError


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
