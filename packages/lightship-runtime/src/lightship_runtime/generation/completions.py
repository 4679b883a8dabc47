"""POST /v1/completions, OpenAI's form: what follows a prompt.

    {"prompt": "Once upon a time", "max_tokens": 16, "stream": false}
    {"id": "cmpl-...", "object": "text_completion", "created": 1700000000, "model": "...",
     "choices": [{"index": 0, "text": "...", "logprobs": null, "finish_reason": "length"}], "usage": {...}}

Prompts are texts. Several prompts, and several texts for each (`n`), are that many choices: those of each prompt in
turn. `echo` puts the prompt before the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forms import Asked, Counts, Form, Identity, Text, several, usage
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece
from lightship_runtime.generation.sampling import MOST_TEXTS, Sampling
from lightship_runtime.payload.call import Call, RequestError
from lightship_runtime.payload.openai_bodies import check_model, neutral, read, unsupported

DEFAULT_TOKENS = 16  # as OpenAI's


class _Body(Sampling, kw_only=True):
    prompt: str | list[Any]
    echo: bool | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    best_of: Annotated[int, msgspec.Meta(ge=1)] | None = None
    suffix: str | None = None


def parse_completions(call: Call, engine: GenerationEngine, identity: Identity) -> Asked:
    """What a body asks for. Raises RequestError."""
    body = read(call.body, _Body)
    check_model(body.model, identity.name)
    body.check(engine)
    choices = body.n or 1
    if not neutral(body.best_of, choices):
        raise unsupported("best_of", "All texts that are written are given: leave it out, or make it n.")
    if not neutral(body.suffix):
        raise unsupported("suffix", "Text is only written behind a prompt.")
    if body.logprobs is not None:
        check_logprobs("logprobs", body.logprobs, engine)
        if body.echo:
            raise unsupported("echo", "The prompt's tokens have no log probabilities here.")
    prompts = _prompts(body.prompt, choices)
    requests = [
        one
        for prompt in prompts
        for one in several(
            GenerationRequest(
                prompt=prompt,
                max_tokens=body.max_tokens or DEFAULT_TOKENS,
                logprobs=body.logprobs,
                **body.sampling(),
            ),
            choices,
        )
    ]
    before = [prompt if body.echo else "" for prompt in prompts for _ in range(choices)]
    return Asked(tuple(requests), bool(body.stream), Completion(identity, before, counted=body.usage), choices)


def check_logprobs(param: str, wanted: int, engine: GenerationEngine) -> None:
    """Raises RequestError where the engine does not give so many log probabilities."""
    most = engine.most_logprobs
    if most is None:
        raise unsupported(param, "This model's engine gives no log probabilities.")
    if wanted > most:
        raise unsupported(param, f"This model's engine gives at most {most} for each token.")


def _prompts(given: str | list[Any], choices: int) -> list[str]:
    prompts = given if isinstance(given, list) else [given]
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise RequestError("Invalid 'prompt': send texts, not tokens.", param="prompt", code="invalid_value")
    if len(prompts) * choices > MOST_TEXTS:
        raise RequestError(
            f"Invalid 'prompt': {len(prompts)} prompts with {choices} texts each are more than {MOST_TEXTS} texts.",
            param="prompt",
            code="invalid_value",
        )
    return prompts


class Completion(Form):
    """Writes completions. `before` is put before each text; `counted` says whether usage ends the parts."""

    def __init__(self, identity: Identity, before: Sequence[str], *, counted: bool) -> None:
        self._head = {
            "id": f"cmpl-{identity.number}",
            "object": "text_completion",
            "created": identity.created,
            "model": identity.name,
        }
        self._before = before
        self._counted = counted
        self._offsets = [0] * len(before)

    def first(self, index: int) -> Iterator[bytes]:
        if self._before[index]:
            yield self._part(index, self._before[index], None, None)

    def piece(self, index: int, piece: Piece) -> bytes:
        return self._part(index, piece.text, self._logprobs(index, [piece]), None)

    def last(self, index: int, finish: Finish) -> Iterator[bytes]:
        yield self._part(index, "", None, finish.reason)

    def end(self, counts: Counts) -> Iterator[bytes]:
        if self._counted:
            yield msgspec.json.encode({**self._head, "choices": [], "usage": usage(counts)})

    def whole(self, texts: Sequence[Text], counts: Counts) -> bytes:
        choices = [
            {
                "index": index,
                "text": self._before[index] + "".join(piece.text for piece in text.pieces),
                "logprobs": self._logprobs(index, text.pieces),
                "finish_reason": text.finish.reason,
            }
            for index, text in enumerate(texts)
        ]
        return msgspec.json.encode({**self._head, "choices": choices, "usage": usage(counts)})

    def _part(self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        part = {**self._head, "choices": [choice]}
        if self._counted:
            part["usage"] = None
        return msgspec.json.encode(part)

    def _logprobs(self, index: int, pieces: list[Piece]) -> dict[str, Any] | None:
        found = [one for piece in pieces for one in piece.logprobs or ()]
        if not found:
            return None
        offsets = []
        for one in found:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(one.token)
        return {
            "tokens": [one.token for one in found],
            "token_logprobs": [one.logprob for one in found],
            "top_logprobs": [dict(one.top) for one in found],
            "text_offset": offsets,
        }
