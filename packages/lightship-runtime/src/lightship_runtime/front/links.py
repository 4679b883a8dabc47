"""The connection to one worker: what it works on, and its messages handed to the dispatcher."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightship_runtime.frames import (
    Cancel,
    Done,
    Flow,
    Frames,
    Left,
    Measure,
    Measured,
    More,
    Work,
    done_decoder,
    frame,
)

if TYPE_CHECKING:
    from lightship_runtime.front.dispatch import Dispatcher
    from lightship_runtime.front.waiting import Pending


@dataclass
class Places:
    """Of a work with several texts: how many are not at their end, and the places it has beside its own."""

    texts: int = 0
    more: int = 0


class Link(asyncio.Protocol):
    """The connection to one worker, and how many batches it has `answered`."""

    def __init__(self, dispatcher: Dispatcher, pid: int, slots: int) -> None:
        self.pid = pid
        self.answered = 0
        self.works: dict[int, list[Pending]] = {}
        self.began: dict[int, float] = {}
        self.slots = slots
        self.places: dict[int, Places] = {}  # of works that have several texts
        self.measuring: tuple[int, Pending] | None = None  # whose tokens it counts
        self._dispatcher = dispatcher
        self._frames = Frames()
        self._transport: Any = None

    @property
    def free(self) -> int:
        """How many more batches it can work on now."""
        free = self.slots - len(self.works)
        return free - sum(places.more for places in self.places.values()) if self.places else free

    def left(self, left: Left) -> None:
        """How many texts of a work are not at their end, and how many places have come back from it."""
        if left.number in self.works:
            places = self.places.setdefault(left.number, Places())
            places.texts = left.texts
            places.more -= left.places

    def share(self) -> None:
        """Give the places that are free to works whose texts wait for one, a place to each in turn."""
        wanting = [number for number, places in self.places.items() if places.texts - 1 > places.more]
        while wanting and self.free > 0:
            number = min(wanting, key=lambda one: self.places[one].more)
            places = self.places[number]
            places.more += 1
            self.send(More(number, 1))
            if places.texts - 1 <= places.more:
                wanting.remove(number)

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
            elif isinstance(message, Left):
                self._dispatcher.texts_left(self, message)
            else:
                self._dispatcher.part(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._dispatcher.left(self)

    def send(self, message: Work | Cancel | Flow | More | Measure) -> None:
        if self._transport is not None:
            self._transport.write(frame(message))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
