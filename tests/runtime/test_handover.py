"""What a model writes comes to whoever waits for it: at once at first, then a few tokens at a time."""

from __future__ import annotations

import threading

import pytest

from lightship_runtime.generation.handover import GATHERED, Handover
from lightship_runtime.generation.request import Finish, Piece

END = Finish("stop", 3, 2)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def there(handover: Handover) -> list[Piece | Finish]:
    """What has arrived by now."""
    found = []
    for one in handover.arrived():
        if one is None:
            break
        found.append(one)
    return found


def test_the_first_piece_comes_at_once_and_quick_ones_together() -> None:
    clock = Clock()
    handover = Handover(clock)
    coming = handover.arrived()
    handover.put(Piece("a"))
    assert next(coming) == Piece("a")
    clock.now += GATHERED / 2
    handover.put(Piece("b"))
    assert next(coming) is None
    clock.now += GATHERED
    handover.put(Piece("c"))
    assert [next(coming), next(coming), next(coming)] == [Piece("b"), Piece("c"), None]


def test_the_end_waits_for_nothing() -> None:
    handover = Handover(Clock())
    for one in (Piece("a"), Piece("b"), END):
        handover.put(one)
    assert there(handover) == [Piece("a"), Piece("b"), END]


def test_an_error_comes_behind_what_was_written() -> None:
    handover = Handover(Clock())
    handover.put(Piece("a"))
    handover.put(Piece("b"))
    handover.fail(ValueError("broken"))
    coming = handover.arrived()
    assert [next(coming), next(coming)] == [Piece("a"), Piece("b")]
    with pytest.raises(ValueError, match="broken"):
        next(coming)


def test_whoever_waits_is_woken_once_and_only_where_there_is_nothing() -> None:
    clock, woken = Clock(), []
    handover = Handover(clock)
    assert handover.when_ready(lambda: woken.append(1))
    handover.put(Piece("a"))
    assert woken == [1]
    clock.now += GATHERED
    handover.put(Piece("b"))
    assert woken == [1]
    assert not handover.when_ready(lambda: woken.append(2))


def test_leaving_is_the_writers_cue_to_stop() -> None:
    handover = Handover()
    coming = handover.arrived()
    assert next(coming) is None
    assert not handover.cancelled
    coming.close()
    assert handover.cancelled


def test_nothing_is_lost_between_two_threads() -> None:
    """Waiting and writing meet in every order; each piece comes, once."""
    handover, pieces = Handover(), [Piece(str(number)) for number in range(2000)]

    def write() -> None:
        for piece in pieces:
            handover.put(piece)
        handover.put(END)

    writer = threading.Thread(target=write)
    writer.start()
    assert list(handover.read()) == [*pieces, END]
    writer.join()
