"""One worker: reads work from its socket, answers it, until the socket is closed by whoever listens.

Where one piece of work runs at a time it runs in the main thread, with nothing between the socket and the model.
Otherwise each has a thread, and the main thread goes on reading, so that a stream can be cancelled; streams that a
model writes in a thread of its own need none once they have begun (`following`).
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lightship_runtime.frames import (
    Cancel,
    Done,
    Flow,
    Frames,
    Left,
    Measure,
    Measured,
    More,
    Part,
    Work,
    frame,
    work_decoder,
)
from lightship_runtime.host.answering import Answering
from lightship_runtime.host.following import Following, Stream
from lightship_runtime.payload import RequestError, write_error
from lightship_runtime.payload.call import FAILURES, Outcome, Places

_READ = 1 << 18  # bytes
_STILL = 0.1  # seconds after which whoever listens is told that the work goes on, where there is nothing to send


class Worker:
    """Answers over one socket. Works on `slots` pieces of work at once."""

    def __init__(self, link: socket.socket, answering: Answering, slots: int, *, streams: bool) -> None:
        self._link = link
        self._answering = answering
        self._readable = select.poll()
        self._readable.register(link, select.POLLIN)
        self._sending = threading.Lock()
        self._streaming: dict[int, Stream] = {}  # changes only within `_changed`
        self._changed = threading.Condition()
        threads = slots if slots > 1 or streams else 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predict") if threads else None
        self._following = Following(self._advance, self._send_all)
        self._measuring = ThreadPoolExecutor(1, thread_name_prefix="measure") if streams else None

    def run(self) -> None:
        """Serve until the other side closes."""
        frames = Frames()
        while data := self._read():
            for content in frames.feed(data):
                message = work_decoder.decode(content)
                if isinstance(message, Cancel | Flow | More):
                    self._steer(message)
                elif isinstance(message, Measure):
                    assert self._measuring is not None  # only texts are measured, and they are streams
                    self._measuring.submit(self._measure, message)
                elif self._pool is None:
                    self._answer(message)
                else:
                    if message.stream:
                        with self._changed:
                            self._streaming[message.number] = self._opened(message)
                    self._pool.submit(self._answer, message)
        self._following.close()
        for pool in (self._pool, self._measuring):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    def _opened(self, work: Work) -> Stream:
        """A stream on which nothing has been done."""
        call = work.calls[0]
        places = Places(lambda left, back: self._send(Left(work.number, left, back)))
        outcome = Outcome(places, follows=True)
        return Stream(work.number, call.protocol, self._answering.stream(call, outcome), outcome)

    def end(self) -> None:
        """Read no more, from any thread: `run` returns."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RD)

    def _steer(self, message: Cancel | Flow | More) -> None:
        with self._changed:
            stream = self._streaming.get(message.number)
            if stream is None:
                return  # it has ended meanwhile
            if isinstance(message, More):
                stream.outcome.places.grant(message.places)
            elif isinstance(message, Cancel):
                stream.cancelled = True
            else:
                stream.stalled = not message.go
            self._changed.notify_all()
        if stream.followed:
            self._following.look(stream)

    def _may_go_on(self, stream: Stream, *, patient: bool) -> bool:
        """Whether somebody waits for a stream. Sets `held` where its client takes nothing, or waits if `patient`."""
        with self._changed:
            if patient:
                self._changed.wait_for(lambda: stream.cancelled or not stream.stalled)
            stream.held = stream.stalled and not stream.cancelled
            return not stream.cancelled

    def _read(self) -> bytes:
        try:
            # A thread that waits in `recv` is woken, for nothing, whenever the other side has read what others sent.
            if self._pool is not None:
                self._readable.poll()
            return self._link.recv(_READ)
        except OSError:
            return b""

    def _measure(self, message: Measure) -> None:
        """Count the tokens of a prompt that waits, or say why it will never be answered."""
        try:
            measured = Measured(message.number, self._answering.prompt_tokens(message.call))
        except RequestError as error:
            measured = Measured(message.number, 0, write_error(error, message.call.protocol))
        except FAILURES as error:
            measured = Measured(message.number, 0, self._answering.failure(error))
        self._send(measured)

    def _send(self, message: Done | Left | Measured) -> None:
        self._send_all(frame(message))

    def _send_all(self, content: bytes) -> None:
        with self._sending, contextlib.suppress(OSError):  # who listens has gone; the next read says so
            self._link.sendall(content)

    def _answer(self, work: Work) -> None:
        """Answer one piece of work, whatever happens: what is never done would keep its place for ever."""
        began = time.perf_counter()
        try:
            if work.stream:
                self._stream(work, began)
                return
            answers, predicting, instances = self._answering.answer_all(work.calls)
        except FAILURES as error:
            answers, predicting, instances = [self._answering.failure(error)] * len(work.calls), 0.0, 0
        self._send(Done(work.number, answers, time.perf_counter() - began, predicting, instances))

    def _stream(self, work: Work, began: float) -> None:
        """Send an answer in parts, as far as this thread is what it waits for."""
        with self._changed:
            stream = self._streaming[work.number]
        stream.began = stream.said = began
        for content in self._said(stream, patient=True):
            self._send_all(content)
        if not stream.ended:
            self._following.follow(stream)

    def _advance(self, stream: Stream) -> bytes:
        return b"".join(self._said(stream, patient=False))

    def _said(self, stream: Stream, *, patient: bool) -> Iterator[bytes]:
        """The frames that there are to send of a stream, until it awaits something or has ended.

        Waits for a client that takes nothing if `patient`; else leaves the stream `held`.
        """
        outcome = stream.outcome
        try:
            while self._may_go_on(stream, patient=patient):
                if stream.held:
                    return
                content = next(stream.parts, None)
                if content is None:
                    break
                if outcome.awaits is not None:
                    return
                now = time.perf_counter()
                if content or now - stream.said > _STILL:
                    stream.said = now
                    yield frame(Part(stream.number, content))
            stream.parts.close()  # a generator: its end is the engine's cue to stop
        except RequestError as error:
            outcome.answer = write_error(error, stream.protocol)
        except FAILURES as error:
            outcome.answer = self._answering.failure(error)
        stream.ended = True
        with self._changed:
            del self._streaming[stream.number]
        seconds = time.perf_counter() - stream.began
        yield frame(Done(stream.number, [outcome.answer], seconds, seconds, 1, outcome.generated))
