"""Several texts of one transformers model at once: each step writes a token of all, and newcomers join at the next.

A row of the batch is a text. Those that write come first, so that a step takes a part of the cache as it lies; those
whose prompts are still read come after them. Between two steps of writing one part of prompts is read, so that a long
prompt does not hold up the others for long, and several short ones are read together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty
from typing import Any

from lightship_runtime.engines.job_thread import JobThread
from lightship_runtime.engines.transformers_choice import Choice, choice
from lightship_runtime.engines.transformers_rows import RowCache
from lightship_runtime.engines.transformers_text import Job, WrittenText

_PART = {"cpu": 256, "cuda": 2048}  # tokens of prompts that are read between two steps, padding counted


@dataclass(eq=False)
class _Row:
    """A text on its way: `tokens` are those of prompt and text, of which the first `read` are in the cache.

    `turn` counts the texts in the order in which they came.
    """

    job: Job
    text: WrittenText
    choice: Choice | None
    place: int
    tokens: list[int]
    turn: int
    read: int = 0

    @property
    def left(self) -> int:
        return len(self.tokens) - self.read


class TogetherThread(JobThread[Job]):
    """Writes all jobs at once: whoever bounds their number calls `begin` less. At the end texts end with an error."""

    def __init__(self, model: Any, tokenizer: Any, ends: frozenset[int], context: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._ends = ends
        self._device = model.device
        self._part = _PART.get(model.device.type, _PART["cpu"])
        self._cache = RowCache(context)
        self._rows: list[_Row] = []  # in the order of their places
        self._writers = 0  # the first so many of them have their prompts read
        self._turns = itertools.count()
        self._oldest = True  # whose prompt is read next: the oldest one's, or the one's with the least to read
        super().__init__()

    @property
    def writing(self) -> int:
        """Texts on their way."""
        return len(self._rows)

    def _run(self) -> None:
        import torch

        with torch.inference_mode():
            while self._arrived():
                try:
                    self._turn()
                except Exception as error:  # nothing that is known: but who waits must not wait for ever
                    self._end(error)
        self._end(RuntimeError("the engine was closed"))

    def _turn(self) -> None:
        """Read a part of a prompt, and write a token of every text whose prompt is read."""
        for row in [row for row in self._rows if row.job.reader.cancelled]:
            self._leave(row)
        if readers := self._readers():
            self._step(readers, min(max(row.left for row in readers), self._part))
        if writers := self._rows[: self._writers]:
            self._step(writers, 1)

    def _end(self, error: Exception) -> None:
        for row in self._rows:
            row.job.reader.fail(error)
        self._rows.clear()
        self._writers = 0
        self._cache.clear()

    def _arrived(self) -> bool:
        """Take in the jobs that wait, and wait for one where there is nothing to do. False at the end."""
        if not self._rows:
            self._cache.clear()
        try:
            while True:
                job = self._jobs.get_nowait() if self._rows else self._jobs.get()
                if job is None:
                    return False
                if not job.reader.cancelled:
                    self._join(job)
        except Empty:
            return True

    def _join(self, job: Job) -> None:
        try:
            chosen = choice(job.request, self._model.generation_config, self._device)
            text = WrittenText(job, self._tokenizer, self._ends)
            self._rows.append(_Row(job, text, chosen, len(self._rows), list(job.prompt), next(self._turns)))
        except Exception as error:  # whoever waits for the text is told
            job.reader.fail(error)

    def _readers(self) -> list[_Row]:
        """Whose prompts are read next: one's, or those of several that fit one part to their ends."""
        waiting = sorted(self._rows[self._writers :], key=lambda row: row.left)
        if not waiting:
            return []
        first = min(waiting, key=lambda row: row.turn) if self._oldest else waiting[0]
        self._oldest = not self._oldest  # in turns: neither waits for ever
        group = [first]
        for row in waiting:
            if row is not first and max(first.left, row.left) * (len(group) + 1) <= self._part:
                group.append(row)
        return group

    def _step(self, rows: Sequence[_Row], width: int) -> None:
        """Compute `width` tokens of each row, or what it has left, and choose the next token of those with none."""
        try:
            scores = self._computed(rows, width)
            likeliest = scores.argmax(dim=-1).tolist()
        except Exception as error:
            if len(rows) == 1:
                self._fail(rows[0], error)
                return
            for row in rows:  # one of them is the reason: the others shall not suffer for it
                self._step([row], width)
            return
        for row in rows:  # all of them, before any is moved in the cache
            row.read += min(row.left, width)
        for row, own, best in zip(rows, scores, likeliest, strict=True):
            if not row.left:
                self._write(row, own, best)

    def _computed(self, rows: Sequence[_Row], width: int) -> Any:
        """The model's scores after each row's last token in this step."""
        import torch

        lasts = [min(row.left, width) - 1 for row in rows]
        parts = [row.tokens[row.read : row.read + width] for row in rows]
        starts = [row.read for row in rows]
        longest = max(*(row.read for row in self._rows), max(starts) + width)
        self._cache.fit(len(self._rows), longest)
        positions, visible = self._cache.aim([row.place for row in rows], starts, width, self._device)
        # What pads a part is written behind the row's end, where nobody looks before it is written over.
        tokens = [part + [0] * (width - len(part)) for part in parts]
        kept = sorted(set(lasts))
        scores = self._model(
            input_ids=torch.tensor(tokens, device=self._device),
            attention_mask=self._mask(visible),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.tensor(kept, device=self._device),
        ).logits
        return scores[torch.arange(len(rows)), [kept.index(last) for last in lasts]]

    def _mask(self, visible: Any) -> Any:
        """What the model's attention takes for which tokens are seen."""
        if self._model.config._attn_implementation == "sdpa":  # whatever the numbers are that it computes in
            return visible
        import torch

        dtype = self._model.dtype
        hidden = torch.finfo(dtype).min
        return torch.zeros(visible.shape, dtype=dtype, device=self._device).masked_fill_(~visible, hidden)

    def _write(self, row: _Row, scores: Any, likeliest: int) -> None:
        try:
            token = likeliest if row.choice is None else int(row.choice(row.tokens, scores[None])[0])
            row.tokens.append(token)
            more = row.text.wrote(token, scores)
            if not more:
                row.text.finish()
        except Exception as error:
            self._fail(row, error)
            return
        if not more:
            self._leave(row)
        elif row.place >= self._writers:
            self._promote(row)

    def _promote(self, row: _Row) -> None:
        """The row's prompt is read: the first of those that are still being read takes its place."""
        place, other = row.place, self._rows[self._writers]
        if other is not row:
            self._cache.swap(place, other.place, max(row.read, other.read))
            self._rows[place], self._rows[other.place] = other, row
            row.place, other.place = other.place, place
        self._writers += 1

    def _fail(self, row: _Row, error: Exception) -> None:
        row.job.reader.fail(error)
        self._leave(row)

    def _leave(self, row: _Row) -> None:
        """The last of those that write takes the row's place, and the last of all takes the place that is left."""
        place = row.place
        if place < self._writers:
            self._writers -= 1
            self._move(self._writers, place)
            place = self._writers
        self._move(len(self._rows) - 1, place)
        self._rows.pop()

    def _move(self, place: int, to: int) -> None:
        if place == to:
            return
        row = self._rows[place]
        if row.read:  # else there may be no room for it yet
            self._cache.copy(place, to, row.read)
        self._rows[to], row.place = row, to
