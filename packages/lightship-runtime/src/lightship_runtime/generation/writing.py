"""One text as it is written: what of it may be sent, and its counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lightship_runtime.generation.calling import Calling, Reading, Tools
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forcing import Forced
from lightship_runtime.generation.request import Arguments, Finish, FinishReason, GenerationRequest, Piece, ToolCall
from lightship_runtime.generation.stopping import Stopping
from lightship_runtime.payload.call import Outcome

Written = Piece | ToolCall | Arguments


class Writing:
    """What a model writes for one request.

    Attributes:
        first: When the first token came, on the clock; None before that.
        written: Tokens so far.
        prompt_tokens: Of the request.
    """

    def __init__(
        self,
        engine: GenerationEngine,
        request: GenerationRequest,
        prompt_tokens: int,
        tools: Tools,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._request = request
        self._stopping = Stopping(request.stop)
        self._calling: Reading = Forced() if tools.forced else Calling(tools)
        self._chosen = tools.chosen
        self._clock = clock
        self._reason: FinishReason = "error"
        self.first: float | None = None
        self.written = 0
        self.prompt_tokens = prompt_tokens

    @property
    def finish(self) -> Finish:
        """How it ended: as far as it is known, where it was ended by whoever asked."""
        called = self._calling.made and self._reason == "stop" and not self._chosen
        return Finish("tool_calls" if called else self._reason, self.prompt_tokens, self.written)

    def pieces(self, outcome: Outcome | None = None) -> Iterator[Written | None]:
        """The pieces that may be sent; None where the model has gone on and there is nothing to send.

        Where the `outcome` follows, None with `outcome.awaits` set, too, where the model has not gone on.
        """
        coming = self._coming(outcome)
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
                if self._stopping.stopped or self._calling.enough:
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

    def _coming(self, outcome: Outcome | None) -> Iterator[Piece | Finish | None]:
        handover = self._engine.begin(self._request) if outcome is not None and outcome.follows else None
        if outcome is None or handover is None:
            yield from self._engine.generate(self._request)
            return
        for one in handover.arrived():
            outcome.awaits = handover if one is None else None
            yield one

    def _through(self, pieces: list[Piece]) -> list[Written]:
        return [ready for piece in pieces for ready in self._calling.feed(piece)]

    def _count(self, piece: Piece) -> None:
        if self.first is None:
            self.first = self._clock()
        self.written += piece.tokens

    def _ended(self, finish: Finish) -> None:
        if finish.reason == "error":
            raise RuntimeError("the engine ended with an error")
        self._reason = finish.reason
        self.prompt_tokens = finish.prompt_tokens
        self.written = finish.completion_tokens
