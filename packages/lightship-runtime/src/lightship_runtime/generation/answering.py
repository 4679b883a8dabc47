"""A Call to the texts that a model writes for it, whole or in parts."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from lightship_runtime.engines.engine import BadInstances
from lightship_runtime.generation.chat import parse_chat
from lightship_runtime.generation.completions import parse_completions
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forms import Asked, Counts, Identity, Text, fitting
from lightship_runtime.generation.plain import parse_plain
from lightship_runtime.generation.request import Arguments, Finish, GenerationRequest, Piece, ToolCall
from lightship_runtime.generation.several import Numbered, texts
from lightship_runtime.generation.writing import Writing
from lightship_runtime.payload.call import FAILURES, Answer, Call, Generated, Outcome, RequestError

STILL = b""  # a part with nothing in it: the work goes on, and this is a moment to say that nobody waits for it
_PARSERS = {"chat": parse_chat, "completions": parse_completions, "generate": parse_plain}


class GenerationAnswering:
    """Answers calls with one engine; from several threads at once."""

    def __init__(
        self, engine: GenerationEngine, name: str, failed: Callable[[BaseException], None], clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._name = name
        self._failed = failed
        self._clock = clock

    def answer(self, call: Call) -> Answer:
        """The whole answer to a call that asks for no parts. Raises RequestError."""
        outcome = Outcome()
        for _ in self.parts(call, outcome):
            pass
        return outcome.answer

    def parts(self, call: Call, outcome: Outcome) -> Iterator[bytes]:
        """The parts of an answer as JSON, with STILL at every token that gives none; `outcome` is filled in.

        With `outcome.follows`, they are STILL where the model is waited for, too.

        Where the call asks for no parts they are all STILL, and `outcome.answer` is the whole answer. Closing the
        iterator ends the model's work on it. Raises RequestError.
        """
        began = self._clock()
        asked, lengths = self._asked(call)
        writings = [
            Writing(self._engine, request, length, asked.tools, self._clock)
            for request, length in zip(asked.requests, lengths, strict=True)
        ]
        coming = texts(writings, outcome)
        try:
            if asked.streamed:
                yield from _streamed(asked, writings, coming)
            else:
                whole = _Whole(len(writings))
                for index, one in coming:
                    whole.add(index, one)
                    yield STILL
                outcome.answer = Answer(200, asked.form.whole(whole.texts(), _counts(asked, writings)))
        except (RequestError, BadInstances) as error:
            raise _refused(error, "tools" if asked.tools.forced else None) from error
        except FAILURES as error:
            self._failed(error)
            raise RequestError("The model failed on this request.", 500) from error
        finally:
            coming.close()  # type: ignore[attr-defined]  # a generator: its end is the engine's cue to stop
            outcome.generated = _generated(_counts(asked, writings), writings, began, self._clock())

    def prompt_tokens(self, call: Call) -> int:
        """How many tokens are read for a call: a prompt is read for each of its texts.

        Raises RequestError for what can never be answered.
        """
        return sum(self._asked(call)[1])

    def _asked(self, call: Call) -> tuple[Asked, list[int]]:
        """What a call asks for, and the tokens of each text's prompt. Raises RequestError."""
        identity = Identity(self._name, secrets.token_hex(16), int(time.time()))
        requests: list[GenerationRequest] = []
        lengths: list[int] = []
        asked: Asked | None = None
        try:
            asked = _PARSERS[call.protocol](call, self._engine, identity)
            for start in range(0, len(asked.requests), asked.choices):
                of_prompt = asked.requests[start : start + asked.choices]
                first, length = fitting(of_prompt[0], self._engine, asked.form.prompt)
                requests += (msgspec.structs.replace(one, max_tokens=first.max_tokens) for one in of_prompt)
                lengths += [length] * len(of_prompt)
        except (RequestError, BadInstances) as error:
            raise _refused(error, "tools" if asked is not None and asked.tools.forced else None) from error
        except FAILURES as error:
            self._failed(error)
            raise RequestError("The model failed on this request.", 500) from error
        return dataclasses.replace(asked, requests=tuple(requests)), lengths


def _streamed(asked: Asked, writings: Sequence[Writing], coming: Iterator[Numbered]) -> Iterator[bytes]:
    """The parts. What stands before a text's first piece waits for it: what fails before has a status of its own."""
    form = asked.form
    begun: set[int] = set()
    for index, one in coming:
        if one is None or (isinstance(one, Piece) and not (one.text or one.logprobs)):
            yield STILL
            continue
        if index not in begun:
            begun.add(index)
            yield from form.first(index)
        if isinstance(one, Finish):
            yield from form.last(index, one)
        else:
            yield form.piece(index, one) if isinstance(one, Piece) else form.call(index, one)
    yield from form.end(_counts(asked, writings))


class _Whole:
    """Gathers texts."""

    def __init__(self, count: int) -> None:
        self._pieces: list[list[Piece]] = [[] for _ in range(count)]
        self._calls: list[list[tuple[str, list[str]]]] = [[] for _ in range(count)]
        self._ends: dict[int, Finish] = {}

    def add(self, index: int, one: Piece | ToolCall | Arguments | Finish | None) -> None:
        if isinstance(one, Piece):
            self._pieces[index].append(one)
        elif isinstance(one, ToolCall):
            self._calls[index].append((one.name, [one.arguments]))
        elif isinstance(one, Arguments):
            self._calls[index][-1][1].append(one.text)
        elif one is not None:
            self._ends[index] = one

    def texts(self) -> list[Text]:
        return [
            Text(
                pieces,
                [ToolCall(name, "".join(arguments)) for name, arguments in self._calls[index]],
                self._ends[index],
            )
            for index, pieces in enumerate(self._pieces)
        ]


def _counts(asked: Asked, writings: Sequence[Writing]) -> Counts:
    prompts = sum(one.prompt_tokens for one in writings[:: asked.choices])
    return Counts(prompts, sum(one.written for one in writings))


def _generated(counts: Counts, writings: Sequence[Writing], began: float, now: float) -> Generated:
    first = min((one.first for one in writings if one.first is not None), default=None)
    return Generated(
        counts.prompt_tokens,
        counts.completion_tokens,
        None if first is None else first - began,
        now - began,
        max(one.written for one in writings),
    )


def _refused(error: Exception, schema: str | None = None) -> RequestError:
    """What to tell; `schema` is the member that an answer's schema came from, where it is not its own."""
    if not isinstance(error, RequestError):
        return RequestError(str(error))
    if schema is not None and error.param == "response_format":
        return RequestError(error.message, error.status, param=schema, code=error.code)
    return error
