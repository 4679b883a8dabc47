"""Lanes of ONNX Runtime GenAI: each writes one text, or a few that were asked for together, a token at a step.

On CPUs the library's `Engine` batches statically (0.18): up to four requests that begin together end together, one
that comes later waits for the longest of them, and neither seeds nor long prompts in parts are possible. So what
comes together shares an Engine, whose steps make up to twice the tokens per second; what comes alone has one of its
own; what an Engine cannot do has a Generator; and the lanes take turns, so that nobody waits for more than one step
of each. A step of a Generator keeps Python's lock, one of an Engine lets go of it, so that other threads can send.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, FinishReason, Piece, TokenLogprob

BATCH = 4  # requests: the library's own bound for a static batch
CHUNK = 256  # tokens of a prompt in one step: longer ones would keep the others waiting, and could not be cancelled
_EVENTS = 4 * BATCH  # that one step can bring at most, and some


@dataclass
class Job:
    """One text to be written.

    Attributes:
        prompt: Its tokens, an array of int32.
        most: Tokens to write.
        options: Of `set_search_options`, without lengths and seed.
        seed: Not negative; None for none.
        logprobs: How many alternatives, as in a GenerationRequest.
        padded: Whether the prompt has the token that batches are padded with.
        guidance: What kind of grammar, and the grammar; None for none.
        stream: The tokenizer's stream, which turns tokens into text.
        reader: Who waits for it.
        written: Tokens so far.
    """

    prompt: Any
    most: int
    options: Mapping[str, Any]
    seed: int | None
    logprobs: int | None
    padded: bool
    guidance: tuple[str, str] | None
    stream: Any
    reader: Handover
    written: int = field(default=0)

    @property
    def total(self) -> int:
        """Tokens that its cache must have room for."""
        return len(self.prompt) + self.most

    @property
    def simple(self) -> bool:
        """Whether an Engine can write it."""
        return self.seed is None and self.logprobs is None and len(self.prompt) <= CHUNK

    @property
    def sociable(self) -> bool:
        """Whether it can share an Engine. A grammar that becomes too large ends all texts of its Engine."""
        return self.simple and not self.padded and self.guidance is None

    def wrote(self, token: int, logprob: TokenLogprob | None = None) -> None:
        self.written += 1
        self.reader.put(Piece(self.stream.decode(token), 1, None if logprob is None else (logprob,)))

    def ended(self, reason: FinishReason) -> None:
        self.reader.put(Finish(reason, len(self.prompt), self.written))


class Lane(ABC):
    """Some jobs on their way."""

    jobs: Sequence[Job]

    @abstractmethod
    def step(self) -> bool:
        """Go on by one token, or by a part of a prompt; false when there is nothing left to do."""

    def close(self) -> None:  # noqa: B027  # the library frees a Generator by itself
        """Give back what the library holds."""


class GeneratorLane(Lane):
    """One text by itself: it can have a seed and log probabilities, and its prompt is read in parts."""

    def __init__(self, model: Any, tokenizer: Any, job: Job) -> None:
        """Raises RuntimeError, of the library, for a grammar that is none."""
        import onnxruntime_genai as genai

        parameters = genai.GeneratorParams(model)
        seeded = {} if job.seed is None else {"random_seed": job.seed}
        parameters.set_search_options(**job.options, **seeded, max_length=job.total)
        if job.guidance is not None:
            parameters.set_guidance(*job.guidance)
        self._generator = genai.Generator(model, parameters)
        self._ends = frozenset(int(token) for token in tokenizer.eos_token_ids)
        self._tokenizer = tokenizer
        self._job = job
        self._read = 0
        self.jobs = (job,)

    def step(self) -> bool:
        job = self._job
        if job.reader.cancelled:
            return False
        if self._read < len(job.prompt):
            self._generator.append_tokens(job.prompt[self._read : self._read + CHUNK])
            self._read += CHUNK
            return True
        logits = None if job.logprobs is None else self._generator.get_logits()
        self._generator.generate_next_token()
        token = int(self._generator.get_next_tokens()[0])
        if token in self._ends:
            job.ended("stop")
            return False
        job.wrote(token, None if logits is None else self._logprob(logits, token))
        if job.written >= job.most:
            job.ended("length")
            return False
        return True

    def _logprob(self, logits: Any, token: int) -> TokenLogprob:
        """Of the model itself, before temperature and penalties."""
        import numpy

        row = logits.reshape(-1, logits.shape[-1])[-1].astype(numpy.float64)
        row -= row.max()
        row -= numpy.log(numpy.exp(row).sum())
        count = self._job.logprobs or 0
        best = numpy.argpartition(row, -count)[-count:] if count else numpy.empty(0, dtype=numpy.int64)
        top = [(self._text(int(one)), float(row[one])) for one in best[numpy.argsort(-row[best])]]
        return TokenLogprob(self._text(token), float(row[token]), tuple(top))

    def _text(self, token: int) -> str:
        import numpy

        return str(self._tokenizer.decode(numpy.array([token], dtype=numpy.int32)))


class BatchLane(Lane):
    """One text, or up to BATCH that were asked for together."""

    def __init__(self, model: Any, jobs: Sequence[Job]) -> None:
        """Raises RuntimeError, of the library, where a job cannot begin: then none of them has."""
        import onnxruntime_genai as genai

        self.jobs = tuple(jobs)
        self._engine = genai.Engine(model)
        self._events = self._engine.create_event_buffer(_EVENTS)
        self._flags = genai.EngineEventFlags
        self._reasons: Mapping[Any, FinishReason] = {
            genai.FinishReason.EOS: "stop",
            genai.FinishReason.STOP_STRING: "stop",
            genai.FinishReason.MAX_GENERATED_TOKENS: "length",
            genai.FinishReason.MAX_SESSION_TOKENS: "length",
        }
        self._requests: list[Any] = []
        self._turns: dict[int, int] = {}  # of jobs that still go on, by their place
        try:
            for place, job in enumerate(self.jobs):
                self._turns[place] = self._begin(genai, job)
        except BaseException:
            self.close()
            raise

    def _begin(self, genai: Any, job: Job) -> int:
        bounds = genai.RequestOptions()
        bounds.set_max_session_tokens(job.total)
        request = self._engine.create_request(options=bounds)
        self._requests.append(request)
        options = genai.TurnOptions(request)
        for name, value in job.options.items():
            getattr(options, f"set_{name}")(value)
        options.set_max_generated_tokens(job.most)
        if job.guidance is not None:
            options.set_guidance(*job.guidance)
        return int(request.begin_turn(job.prompt, options))

    def step(self) -> bool:
        for place, turn in list(self._turns.items()):
            if self.jobs[place].reader.cancelled:
                self._requests[place].cancel_turn(turn)
                del self._turns[place]
        # Once nobody waits any more the batch is dropped, whatever the library still had to say.
        if not self._turns or not self._engine.has_pending_requests():
            return False
        for event in self._engine.run(self._events):
            place = next(place for place, one in enumerate(self._requests) if one is event.request)
            if place in self._turns:
                self._tell(place, event)
        return bool(self._turns)

    def _tell(self, place: int, event: Any) -> None:
        job, flags = self.jobs[place], event.flags.value
        if flags & self._flags.TOKEN.value:
            job.wrote(int(event.token))
        if flags & self._flags.FAILED.value and len(self.jobs) == 1:
            raise RuntimeError("the library could not go on with a text")  # the thread knows what to tell
        if flags & (self._flags.FAILED.value | self._flags.TURN_FINISHED.value):
            del self._turns[place]
            # A failure is an "error": whoever reads it makes a 500 of it.
            job.ended(
                "error" if flags & self._flags.FAILED.value else self._reasons.get(event.finish_reason, "error")
            )

    def close(self) -> None:
        for place, turn in self._turns.items():
            self._requests[place].cancel_turn(turn)
        self._turns.clear()
        for request in self._requests:
            request.close()
        self._requests.clear()


def fits_engine(model: Any) -> bool:
    """Whether an Engine can run the graph: tried with two tokens, which takes one step.

    A graph that gives the scores of the last token alone it cannot run (0.18): the model builder makes such graphs
    with `prune_lm_head`.
    """
    import numpy
    import onnxruntime_genai as genai

    engine = genai.Engine(model)
    bounds = genai.RequestOptions()
    bounds.set_max_session_tokens(4)
    request = engine.create_request(options=bounds)
    try:
        options = genai.TurnOptions(request)
        options.set_do_sample(False)
        options.set_max_generated_tokens(1)
        request.begin_turn(numpy.zeros(2, dtype=numpy.int32), options)
        events = engine.create_event_buffer(_EVENTS)
        failed = genai.EngineEventFlags.FAILED.value
        while engine.has_pending_requests():
            if any(event.flags.value & failed for event in engine.run(events)):
                return False
        return True
    except RuntimeError:  # the library's own, whatever it is: a Generator may write all the same
        return False
    finally:
        request.close()


def grouped(jobs: Sequence[Job], most: int) -> list[list[Job]]:
    """Which jobs share a lane, at most so many.

    A batch has the cache of its largest for each, so that they must be of like size.
    """
    groups = [[job] for job in jobs if not job.sociable]
    batch: list[Job] = []
    for job in sorted((job for job in jobs if job.sociable), key=lambda job: job.total):
        if batch and (len(batch) == most or job.total > 2 * batch[0].total):
            groups.append(batch)
            batch = []
        batch.append(job)
    return [*groups, batch] if batch else groups
