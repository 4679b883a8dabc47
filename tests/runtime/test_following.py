"""One thread sends on what several texts have got, and comes back to those that wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from queue import SimpleQueue
from typing import Any

import pytest

from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, Piece
from lightship_runtime.host.following import Following, Stream
from lightship_runtime.payload.call import Outcome

WAIT = 10.0  # seconds after which a test fails


class Texts:
    """Streams of handovers, and what is sent of them: in the place of a worker."""

    def __init__(self) -> None:
        self.sent: SimpleQueue[bytes] = SimpleQueue()
        self.held: set[Stream] = set()
        self.following = Following(self._advance, self.sent.put)

    def open(self, number: int) -> tuple[Handover, Stream]:
        handover, outcome = Handover(), Outcome(follows=True)
        return handover, Stream(number, "chat", self._parts(handover, outcome), outcome)

    def _parts(self, handover: Handover, outcome: Outcome) -> Generator[bytes, None, None]:
        for one in handover.arrived():
            outcome.awaits = handover if one is None else None
            yield b"" if not isinstance(one, Piece) else one.text.encode()

    def _advance(self, stream: Stream) -> bytes:
        said = b""
        stream.held = stream in self.held
        while not stream.held:
            part = next(stream.parts, None)
            if part is None:
                stream.ended = True
                return said + b"."
            if stream.outcome.awaits is not None:
                return said
            said += part
        return said

    def heard(self, text: bytes) -> None:
        """Wait until so much was sent."""
        got = b""
        while len(got) < len(text):
            got += self.sent.get(timeout=WAIT)
        assert got == text


@pytest.fixture
def texts():
    texts = Texts()
    yield texts
    texts.following.close()


def test_what_is_there_goes_together(texts: Texts) -> None:
    opened = [texts.open(number) for number in range(3)]
    for handover, stream in opened:
        handover.put(Piece(str(stream.number)))
    # Nobody sends before the thread begins, so that it finds all three.
    streams = [stream for _, stream in opened]
    for stream in streams:
        texts.following.look(stream)
    texts.following.follow(streams[0])
    assert texts.sent.get(timeout=WAIT) == b"012"


def test_it_comes_back_for_more_until_the_end(texts: Texts) -> None:
    handover, stream = texts.open(1)
    texts.following.follow(stream)
    for text in ("a", "b", "c"):
        handover.put(Piece(text))
    handover.put(Finish("stop", 1, 3))
    texts.heard(b"abc.")
    texts.following.look(stream)  # which has ended: nothing comes of it
    other, second = texts.open(2)
    other.put(Piece("x"))
    texts.following.follow(second)
    texts.heard(b"x")


def test_many_first_streams_have_one_thread_between_them(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    made, make = [], threading.Thread.__init__

    def slow(thread: threading.Thread, *arguments: Any, **named: Any) -> None:
        if named.get("name") == "follow":
            made.append(thread)
            time.sleep(0.1)  # in which the others look whether there is one
        make(thread, *arguments, **named)

    opened = [texts.open(number) for number in range(8)]
    barrier = threading.Barrier(8)

    def follow(stream: Stream) -> None:
        barrier.wait()
        texts.following.follow(stream)

    threads = [threading.Thread(target=follow, args=(stream,)) for _, stream in opened]
    monkeypatch.setattr(threading.Thread, "__init__", slow)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_what_is_held_waits_until_somebody_says_so(texts: Texts) -> None:
    handover, stream = texts.open(1)
    texts.held.add(stream)
    handover.put(Piece("a"))
    texts.following.follow(stream)
    other, second = texts.open(2)
    other.put(Piece("b"))
    texts.following.follow(second)
    texts.heard(b"b")  # and nothing of the first, which came before it
    texts.held.clear()
    texts.following.look(stream)
    texts.heard(b"a")
