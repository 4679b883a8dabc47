"""From the thread that a model writes in to the one that waits for its text, and the wish to stop back again."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue

from lightship_runtime.generation.request import Finish, Piece


class Handover:
    """One text on its way. The writer calls `put` and `fail` and looks at `cancelled`; the reader iterates.

    A library that writes in a loop of its own, or for several texts at once, has a thread for that; closing the
    reader's iterator, or losing it, sets `cancelled`, which the writer looks at before each step.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Piece | Finish | BaseException] = SimpleQueue()
        self.cancelled = False

    def put(self, one: Piece | Finish) -> None:
        """Hand over a piece, or the end."""
        self._queue.put(one)

    def fail(self, error: BaseException) -> None:
        """Hand over an error: it is raised where the text was waited for."""
        self._queue.put(error)

    def read(self) -> Iterator[Piece | Finish]:
        """Everything up to the Finish."""
        try:
            while True:
                one = self._queue.get()
                if isinstance(one, BaseException):
                    raise one
                yield one
                if isinstance(one, Finish):
                    return
        finally:
            self.cancelled = True
