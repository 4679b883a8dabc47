"""The connection to one worker: what it works on, and its messages handed to the dispatcher."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lightship_runtime.frames import Cancel, Done, Flow, Frames, Measure, Measured, Work, done_decoder, frame

if TYPE_CHECKING:
    from lightship_runtime.front.dispatch import Dispatcher
    from lightship_runtime.front.waiting import Pending


class Link(asyncio.Protocol):
    """The connection to one worker, and how many batches it has `answered`."""

    def __init__(self, dispatcher: Dispatcher, pid: int, slots: int) -> None:
        self.pid = pid
        self.answered = 0
        self.works: dict[int, list[Pending]] = {}
        self.began: dict[int, float] = {}
        self.slots = slots
        self.measuring: tuple[int, Pending] | None = None  # whose tokens it counts
        self._dispatcher = dispatcher
        self._frames = Frames()
        self._transport: Any = None

    @property
    def free(self) -> int:
        """How many more batches it can work on now."""
        return self.slots - len(self.works)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=1 << 30)  # batches are bounded; nobody would heed the limit
        self._dispatcher.joined(self)

    def data_received(self, data: bytes) -> None:
        for content in self._frames.feed(data):
            message = done_decoder.decode(content)
            if isinstance(message, Done):
                self._dispatcher.finished(self, message)
            elif isinstance(message, Measured):
                self._dispatcher.measured(self, message)
            else:
                self._dispatcher.part(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._dispatcher.left(self)

    def send(self, message: Work | Cancel | Flow | Measure) -> None:
        if self._transport is not None:
            self._transport.write(frame(message))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
