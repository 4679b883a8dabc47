"""The texts of one request, each with its number: a single one as it comes, several side by side.

Several have a thread each, as many at once as the request has places. It has one from the beginning, so that they are
written one after the other where no more are to be had, and none ever waits for another request.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing

from lightship_runtime.generation.request import Finish
from lightship_runtime.generation.writing import Writing, Written
from lightship_runtime.payload.call import FAILURES, Outcome, Places

_AHEAD = 64  # pieces that wait to be sent, before the texts wait as well

Numbered = tuple[int, Written | Finish | None]


def texts(writings: Sequence[Writing], outcome: Outcome) -> Iterator[Numbered]:
    """The pieces of all texts with their numbers, and a Finish at the end of each; None where there is none to send.

    Where `outcome` follows, a single one tells it what it awaits.

    Closing the iterator ends all of them within one step each. Where one fails all are ended, and its error raised.
    """
    if len(writings) > 1:
        yield from _Several(writings, outcome.places).pieces()
        return
    (writing,) = writings
    with closing(writing.pieces(outcome)) as pieces:  # type: ignore[type-var]  # a generator
        for one in pieces:
            yield 0, one
    yield 0, writing.finish


class _Several:
    def __init__(self, writings: Sequence[Writing], places: Places) -> None:
        self._writings = writings
        self._places = places
        self._left = len(writings)
        self._items: deque[tuple[int, Written | Finish | BaseException | None]] = deque()
        self._changed = threading.Condition()
        self._cancelled = False

    def pieces(self) -> Iterator[Numbered]:
        threads: list[threading.Thread] = []
        self._places.want(self._left, self._wake)
        try:
            while self._left:
                index, item = self._next(threads)
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, Finish):
                    self._left -= 1
                    self._places.ended()
                yield index, item
        finally:
            with self._changed:
                self._cancelled = True
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _next(self, threads: list[threading.Thread]) -> tuple[int, Written | Finish | BaseException | None]:
        """What comes next from any of them; begins those that there are places for."""
        count = len(self._writings)
        with self._changed:
            while True:
                ended = count - self._left
                while len(threads) < min(count, ended + self._places.granted):
                    number = len(threads)
                    thread = threading.Thread(target=self._write, args=(number,), name="generate", daemon=True)
                    threads.append(thread)
                    thread.start()
                if self._items:
                    item = self._items.popleft()
                    self._changed.notify_all()
                    return item
                self._changed.wait()

    def _write(self, index: int) -> None:
        writing = self._writings[index]
        try:
            with closing(writing.pieces()) as pieces:  # type: ignore[type-var]  # a generator
                for one in pieces:
                    if not self._put(index, one):
                        return
            self._put(index, writing.finish)
        except FAILURES as error:
            self._put(index, error)

    def _put(self, index: int, item: Written | Finish | BaseException | None) -> bool:
        """Hand something over; false where nobody waits for it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < _AHEAD)
            self._items.append((index, item))
            self._changed.notify_all()
            return not self._cancelled

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
