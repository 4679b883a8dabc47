"""A Call to the text that a model writes for it, whole or in parts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

from lightship_runtime.engines.engine import BadInstances
from lightship_runtime.generation.calling import Calling
from lightship_runtime.generation.chat import parse_chat
from lightship_runtime.generation.completions import parse_completions
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forms import Asked, Identity, fitting
from lightship_runtime.generation.plain import parse_plain
from lightship_runtime.generation.request import Finish, FinishReason, GenerationRequest, Piece, ToolCall
from lightship_runtime.generation.stopping import Stopping
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
        asked, prompt_tokens = self._asked(call)
        request = asked.request
        writing = _Writing(self._engine, request, prompt_tokens, outcome, began, self._clock)
        try:
            if asked.streamed:
                yield from _streamed(asked, writing)
            else:
                pieces: list[Piece] = []
                calls: list[ToolCall] = []
                for one in writing.pieces():
                    if isinstance(one, ToolCall):
                        calls.append(one)
                    elif one is not None:
                        pieces.append(one)
                    yield STILL
                outcome.answer = Answer(200, asked.form.whole(pieces, writing.finish, calls))
        except (RequestError, BadInstances) as error:
            raise _refused(error) from error
        except FAILURES as error:
            self._failed(error)
            raise RequestError("The model failed on this request.", 500) from error

    def prompt_tokens(self, call: Call) -> int:
        """How many tokens a call's prompt has. Raises RequestError for what can never be answered."""
        return self._asked(call)[1]

    def _asked(self, call: Call) -> tuple[Asked, int]:
        """What a call asks for, and the tokens of its prompt. Raises RequestError."""
        identity = Identity(self._name, secrets.token_hex(16), int(time.time()))
        try:
            asked = _PARSERS[call.protocol](call, self._engine, identity)
            request, prompt_tokens = fitting(asked.request, self._engine, asked.form.prompt)
        except (RequestError, BadInstances) as error:
            raise _refused(error) from error
        except FAILURES as error:
            self._failed(error)
            raise RequestError("The model failed on this request.", 500) from error
        return Asked(request, asked.streamed, asked.form), prompt_tokens


def _streamed(asked: Asked, writing: _Writing) -> Iterator[bytes]:
    """The parts. What stands before the first piece waits for it, so that what fails before it has its own status."""
    begun = False
    for one in writing.pieces():
        if one is None or (isinstance(one, Piece) and not (one.text or one.logprobs)):
            yield STILL
            continue
        if not begun:
            begun = True
            yield from asked.form.first()
        yield asked.form.call(one) if isinstance(one, ToolCall) else asked.form.piece(one)
    if not begun:
        yield from asked.form.first()
    yield from asked.form.last(writing.finish)


class _Writing:
    """What a model writes for one request, and its counts."""

    def __init__(
        self,
        engine: GenerationEngine,
        request: GenerationRequest,
        prompt_tokens: int,
        outcome: Outcome,
        began: float,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._request = request
        self._stopping = Stopping(request.stop)
        self._calling = Calling(tool["function"]["name"] for tool in request.tools)
        self._outcome = outcome
        self._began = began
        self._clock = clock
        self._first: float | None = None
        self._written = 0
        self._prompt_tokens = prompt_tokens
        self._reason: FinishReason = "error"

    @property
    def finish(self) -> Finish:
        """How it ended: as far as it is known, where it was ended by whoever asked."""
        reason: FinishReason = "tool_calls" if self._calling.made and self._reason == "stop" else self._reason
        return Finish(reason, self._prompt_tokens, self._written)

    def pieces(self) -> Iterator[Piece | ToolCall | None]:
        """The pieces that may be sent; None where the model has gone on and there is nothing to send."""
        coming = self._coming()
        try:
            for one in coming:
                if one is None:
                    yield None
                    continue
                if isinstance(one, Finish):
                    self._ended(one)
                    break
                self._count(one)
                ready = self._through(self._stopping.feed(one))
                yield from ready
                if self._stopping.stopped:
                    self._reason = "stop"
                    break
                if not ready:
                    yield None
            else:
                raise RuntimeError("the engine ended without saying why")
            yield from self._through(self._stopping.rest())
            yield from self._calling.rest()
        finally:
            if hasattr(coming, "close"):
                coming.close()
            self._note()

    def _coming(self) -> Iterator[Piece | Finish | None]:
        """What the engine writes; None, with `outcome.awaits` set, where there is nothing yet."""
        handover = self._engine.begin(self._request) if self._outcome.follows else None
        if handover is None:
            yield from self._engine.generate(self._request)
            return
        for one in handover.arrived():
            self._outcome.awaits = handover if one is None else None
            yield one

    def _through(self, pieces: list[Piece]) -> list[Piece | ToolCall]:
        return [ready for piece in pieces for ready in self._calling.feed(piece)]

    def _count(self, piece: Piece) -> None:
        if self._first is None:
            self._first = self._clock()
        self._written += piece.tokens

    def _ended(self, finish: Finish) -> None:
        if finish.reason == "error":
            raise RuntimeError("the engine ended with an error")
        self._reason = finish.reason
        self._prompt_tokens = finish.prompt_tokens
        self._written = finish.completion_tokens

    def _note(self) -> None:
        now = self._clock()
        first = None if self._first is None else self._first - self._began
        self._outcome.generated = Generated(self._prompt_tokens, self._written, first, now - self._began)


def _refused(error: Exception) -> RequestError:
    return error if isinstance(error, RequestError) else RequestError(str(error))
