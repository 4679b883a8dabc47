"""From the thread that a model writes in to whoever waits for its text, and the wish to stop back again.

A token of a small model takes a few milliseconds, and waking a thread, a process and a client for it takes a good
part of one where they share the model's cores. So tokens that come faster than a screen shows them are handed over
a few at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Lock

from lightship_runtime.generation.request import Finish, Piece

GATHERED = 0.01  # seconds: what comes sooner after the last pieces waits for the next


class Handover:
    """One text on its way. The writer calls `put` and `fail` and looks at `cancelled`; the reader iterates.

    A library that writes in a loop of its own, or for several texts at once, has a thread for that; closing the
    reader's iterator, or losing it, sets `cancelled`, which the writer looks at before each step.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changing = Lock()
        self._held: list[Piece | Finish | BaseException] = []  # the writer's, until they are handed over
        self._there: list[Piece | Finish | BaseException] = []
        self._handed_over = float("-inf")
        self._wake: Callable[[], None] | None = None
        self.cancelled = False

    def put(self, one: Piece | Finish) -> None:
        """Hand over a piece, or the end."""
        now = self._clock()
        self._held.append(one)
        if now - self._handed_over >= GATHERED or isinstance(one, Finish):
            self._handed_over = now
            self._hand_over()

    def fail(self, error: BaseException) -> None:
        """Hand over an error: it is raised where the text was waited for."""
        self._held.append(error)
        self._hand_over()

    def read(self) -> Iterator[Piece | Finish]:
        """Everything up to the Finish; waits for it."""
        news: SimpleQueue[None] = SimpleQueue()
        for one in self.arrived():
            if one is not None:
                yield one
            elif self.when_ready(lambda: news.put(None)):
                news.get()

    def arrived(self) -> Iterator[Piece | Finish | None]:
        """Everything up to the Finish, and None whenever there is nothing yet."""
        try:
            while True:
                with self._changing:
                    there, self._there = self._there, []
                for one in there:
                    if isinstance(one, BaseException):
                        raise one
                    yield one
                    if isinstance(one, Finish):
                        return
                if not there:
                    yield None
        finally:
            self.cancelled = True

    def when_ready(self, wake: Callable[[], None]) -> bool:
        """Have `wake` called once, by the writer, when there is more. False where there is more already."""
        with self._changing:
            if self._there:
                return False
            self._wake = wake
            return True

    def _hand_over(self) -> None:
        with self._changing:
            self._there += self._held
            self._held = []
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()
