"""POST /v1/completions, OpenAI's form: what follows a prompt.

    {"prompt": "Once upon a time", "max_tokens": 16, "stream": false}
    {"id": "cmpl-...", "object": "text_completion", "created": 1700000000, "model": "...",
     "choices": [{"index": 0, "text": "...", "logprobs": null, "finish_reason": "length"}], "usage": {...}}

One prompt for each request, a text. `echo` puts the prompt before the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forms import Asked, Form, Identity, stops, usage
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece, ToolCall
from lightship_runtime.generation.sampling import Sampling
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
    body.check()
    if not neutral(body.best_of, 1):
        raise unsupported("best_of", "One answer is made for each request.")
    if not neutral(body.suffix):
        raise unsupported("suffix", "Text is only written behind a prompt.")
    if body.logprobs is not None:
        check_logprobs("logprobs", body.logprobs, engine)
        if body.echo:
            raise unsupported("echo", "The prompt's tokens have no log probabilities here.")
    prompt = _prompt(body.prompt)
    request = GenerationRequest(
        prompt=prompt,
        max_tokens=body.max_tokens or DEFAULT_TOKENS,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        repetition_penalty=body.repetition_penalty,
        stop=stops(body.stop),
        seed=body.seed,
        logprobs=body.logprobs,
    )
    return Asked(request, bool(body.stream), Completion(identity, prompt if body.echo else "", counted=body.usage))


def check_logprobs(param: str, wanted: int, engine: GenerationEngine) -> None:
    """Raises RequestError where the engine does not give so many log probabilities."""
    most = engine.most_logprobs
    if most is None:
        raise unsupported(param, "This model's engine gives no log probabilities.")
    if wanted > most:
        raise unsupported(param, f"This model's engine gives at most {most} for each token.")


def _prompt(given: str | list[Any]) -> str:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, str):
        return given
    if isinstance(given, list) and all(isinstance(one, str) for one in given) and given:
        raise RequestError(
            "Invalid 'prompt': one prompt for each request.", param="prompt", code="unsupported_parameter"
        )
    raise RequestError("Invalid 'prompt': send a text, not tokens.", param="prompt", code="invalid_value")


class Completion(Form):
    """Writes completions. `before` is put before the text; `counted` says whether usage ends the parts."""

    def __init__(self, identity: Identity, before: str, *, counted: bool) -> None:
        self._head = {
            "id": f"cmpl-{identity.number}",
            "object": "text_completion",
            "created": identity.created,
            "model": identity.name,
        }
        self._before = before
        self._counted = counted
        self._offset = 0

    def first(self) -> Iterator[bytes]:
        if self._before:
            yield self._part(self._before, None, None)

    def piece(self, piece: Piece) -> bytes:
        return self._part(piece.text, self._logprobs([piece]), None)

    def last(self, finish: Finish) -> Iterator[bytes]:
        yield self._part("", None, finish.reason)
        if self._counted:
            yield msgspec.json.encode({**self._head, "choices": [], "usage": usage(finish)})

    def whole(self, pieces: list[Piece], finish: Finish, calls: list[ToolCall]) -> bytes:
        text = self._before + "".join(piece.text for piece in pieces)
        choice = {
            "index": 0,
            "text": text,
            "logprobs": self._logprobs(pieces),
            "finish_reason": finish.reason,
        }
        return msgspec.json.encode({**self._head, "choices": [choice], "usage": usage(finish)})

    def _part(self, text: str, logprobs: dict[str, Any] | None, reason: str | None) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason}
        part = {**self._head, "choices": [choice]}
        if self._counted:
            part["usage"] = None
        return msgspec.json.encode(part)

    def _logprobs(self, pieces: list[Piece]) -> dict[str, Any] | None:
        found = [one for piece in pieces for one in piece.logprobs or ()]
        if not found:
            return None
        offsets = []
        for one in found:
            offsets.append(self._offset)
            self._offset += len(one.token)
        return {
            "tokens": [one.token for one in found],
            "token_logprobs": [one.logprob for one in found],
            "top_logprobs": [dict(one.top) for one in found],
            "text_offset": offsets,
        }
