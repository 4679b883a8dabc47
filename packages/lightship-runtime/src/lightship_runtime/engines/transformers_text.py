"""A text that transformers writes: from tokens and the model's scores to pieces, for whoever waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightship_runtime.generation.detokenizing import TextStream
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece, TokenLogprob


@dataclass(frozen=True)
class Job:
    """What is to be written: at most `most` tokens after those of the prompt."""

    request: GenerationRequest
    prompt: list[int]
    most: int
    reader: Handover


class WrittenText:
    """Hands over what is written, token by token, until one that ends texts comes or there are enough."""

    def __init__(self, job: Job, tokenizer: Any, ends: frozenset[int]) -> None:
        self._job = job
        self._ends = ends
        self._decode = tokenizer.decode
        self._stream = TextStream(lambda tokens: str(self._decode(tokens, skip_special_tokens=True)))
        self._written = 0
        self._ended = False

    def wrote(self, token: int, scores: Any) -> bool:
        """Hand over a token; `scores` are the model's own, a row. Whether more are to come."""
        if token in self._ends:
            self._ended = True
            return False
        self._written += 1
        logprobs = None if self._job.request.logprobs is None else (self._logprob(token, scores),)
        self._job.reader.put(Piece(self._stream.feed(token), 1, logprobs))
        return self._written < self._job.most

    def finish(self) -> None:
        """Tell the end."""
        if rest := self._stream.rest():
            self._job.reader.put(Piece(rest, 0))
        self._job.reader.put(Finish("stop" if self._ended else "length", len(self._job.prompt), self._written))

    def _logprob(self, token: int, scores: Any) -> TokenLogprob:
        import torch

        row = torch.log_softmax(scores.float(), dim=-1)
        best = torch.topk(row, self._job.request.logprobs or 0)
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return TokenLogprob(
            self._decode([token]), float(row[token]), tuple((self._decode([one]), value) for one, value in top)
        )
