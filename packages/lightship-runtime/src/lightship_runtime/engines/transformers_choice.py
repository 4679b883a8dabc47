"""How the next token of a text is chosen from the model's scores, with transformers' own processors.

`generate()` does it for a whole batch in one way; texts that share steps have settings and random numbers each of its
own, so that what else is written meanwhile changes no text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightship_runtime.generation.request import GenerationRequest

_SEEDS = 1 << 63  # of PyTorch's generators
# What generate() does where neither the request nor the model's configuration says more.
_DEFAULTS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}

Choice = Callable[[Sequence[int], Any], Any]


def choice(request: GenerationRequest, own: Any, device: Any) -> Choice | None:
    """A function of the text's tokens and the scores (a row of one), which gives the next token as a tensor.

    None for the likeliest token, which needs no more than the scores. `own` is the model's generation configuration.
    """
    import torch
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    def setting(name: str) -> Any:
        for value in (getattr(request, name), getattr(own, name, None)):
            if value is not None:
                return value
        return _DEFAULTS[name]

    processors = LogitsProcessorList()
    if (penalty := setting("repetition_penalty")) != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(penalty))
    if not _samples(request, own):
        if not processors:
            return None
        return lambda tokens, scores: _processed(processors, tokens, scores).argmax(dim=-1)
    # In the order of generate().
    if (temperature := setting("temperature")) != 1.0:
        processors.append(TemperatureLogitsWarper(float(temperature)))
    if (top_k := setting("top_k")) != 0:
        processors.append(TopKLogitsWarper(top_k))
    if (top_p := setting("top_p")) < 1.0:
        processors.append(TopPLogitsWarper(top_p))
    if (min_p := getattr(own, "min_p", None)) is not None:
        processors.append(MinPLogitsWarper(min_p))
    generator = torch.Generator(device)
    if request.seed is None:
        generator.seed()
    else:
        generator.manual_seed(request.seed % _SEEDS)

    def drawn(tokens: Sequence[int], scores: Any) -> Any:
        shares = torch.softmax(_processed(processors, tokens, scores), dim=-1)
        return torch.multinomial(shares, 1, generator=generator).flatten()

    return drawn


def _samples(request: GenerationRequest, own: Any) -> bool:
    if request.temperature == 0:
        return False
    if any(asked is not None for asked in (request.temperature, request.top_p, request.top_k)):
        return True
    return bool(getattr(own, "do_sample", None))


def _processed(processors: Any, tokens: Sequence[int], scores: Any) -> Any:
    import torch

    # In single precision, as generate() has it, and a copy: log probabilities are made of the scores as they were.
    scores = scores.to(dtype=torch.float32, copy=True)
    if not processors:
        return scores
    return processors(torch.tensor([tokens], device=scores.device), scores)
