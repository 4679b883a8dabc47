"""One worker: reads work from its socket, answers it, until the socket is closed by whoever listens.

Where one piece of work runs at a time it runs in the main thread, with nothing between the socket and the model.
Otherwise each has a thread, and the main thread goes on reading, so that a stream can be cancelled.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
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
from lightship_runtime.payload import RequestError, write_error
from lightship_runtime.payload.call import FAILURES, Outcome, Places

_READ = 1 << 18  # bytes
_STILL = 0.1  # seconds after which whoever listens is told that the work goes on, where there is nothing to send


class Worker:
    """Answers over one socket. Works on `slots` pieces of work at once."""

    def __init__(self, link: socket.socket, answering: Answering, slots: int, *, streams: bool) -> None:
        self._link = link
        self._answering = answering
        self._sending = threading.Lock()
        self._streaming: dict[int, Places] = {}  # this one and the next two change only within `_changed`
        self._cancelled: set[int] = set()
        self._held: set[int] = set()  # whose clients do not take what they have
        self._changed = threading.Condition()
        threads = slots if slots > 1 or streams else 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predict") if threads else None
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
                            self._streaming[message.number] = self._places(message.number)
                    self._pool.submit(self._answer, message)
        for pool in (self._pool, self._measuring):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    def _places(self, number: int) -> Places:
        return Places(lambda left, back: self._send(Left(number, left, back)))

    def _steer(self, message: Cancel | Flow | More) -> None:
        with self._changed:
            if message.number not in self._streaming:
                return  # it has ended meanwhile
            if isinstance(message, More):
                self._streaming[message.number].grant(message.places)
            elif isinstance(message, Cancel):
                self._cancelled.add(message.number)
            elif message.go:
                self._held.discard(message.number)
            else:
                self._held.add(message.number)
            self._changed.notify_all()

    def _is_cancelled(self, number: int) -> bool:
        """Whether nobody waits for a stream any more, once its client takes more or has gone."""
        with self._changed:
            self._changed.wait_for(lambda: number not in self._held or number in self._cancelled)
            return number in self._cancelled

    def _read(self) -> bytes:
        try:
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

    def _send(self, message: Done | Part | Left | Measured) -> None:
        content = frame(message)
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
        call = work.calls[0]
        with self._changed:
            outcome = Outcome(self._streaming[work.number])
        said = began
        parts = self._answering.stream(call, outcome)
        try:
            while not self._is_cancelled(work.number):
                content = next(parts, None)
                if content is None:
                    break
                now = time.perf_counter()
                if content or now - said > _STILL:
                    said = now
                    self._send(Part(work.number, content))
        except RequestError as error:
            outcome.answer = write_error(error, call.protocol)
        finally:
            parts.close()  # type: ignore[attr-defined]  # a generator: its end is the engine's cue to stop
            with self._changed:
                del self._streaming[work.number]
                self._cancelled.discard(work.number)
                self._held.discard(work.number)
        seconds = time.perf_counter() - began
        self._send(Done(work.number, [outcome.answer], seconds, seconds, 1, outcome.generated))
