"""From waiting calls to batches for the workers, and from their answers back to whoever waits.

A call goes to a worker that is free at once, together with whatever else has arrived meanwhile. While all are busy
calls gather, and the next free worker takes as many as it can do in good time. So a lone call never waits for
company, and a busy server makes large batches.

A request for several texts has one place at first, as any other has. What is free when nobody waits is given to it, a
place for each text, and comes back with each text's end: so requests for one text never wait for the others' many.

Texts that wait have the tokens of their prompts counted meanwhile, by a worker, one after the other: so what can
never be answered is refused at once, and the queue is bounded by what it is going to cost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol as TypingProtocol

from lightship_runtime.frames import Cancel, Done, Flow, Left, Measure, Measured, Part, Work
from lightship_runtime.front.batching import BatchSize
from lightship_runtime.front.links import Link
from lightship_runtime.front.waiting import FairQueue, OnAnswer, OnPart, Pending
from lightship_runtime.payload.call import GENERATING, Answer, Call, Generated, Protocol

BATCH_BYTES = 64 << 20  # of bodies in one batch
HANG_SECONDS = 30.0  # beyond the deadline of its requests, after which a worker is taken for stuck


class Overloaded(Exception):
    """No call can be taken. `status` is 429 where the queue is full, 503 where no worker is there."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Observer(TypingProtocol):
    """Who counts what happens."""

    def batch(self, calls: int, instances: int, seconds: float, predicting: float) -> None: ...

    def waited(self, seconds: float) -> None: ...

    def generated(self, protocol: Protocol, waited: float, generated: Generated) -> None: ...


class Dispatcher:
    """The queue, and the workers that take from it.

    `lost` is called with the number of a worker's process when it has gone.
    """

    def __init__(
        self,
        *,
        queue: int,
        queue_bytes: int,
        queue_tokens: int | None = None,
        timeout: float,
        batch: int,
        batch_seconds: float,
        observer: Observer,
        lost: Callable[[int, int], None],
        stuck: Callable[[int], None],
    ) -> None:
        self._most = queue
        self._most_bytes = queue_bytes
        self._most_tokens = queue_tokens
        self._timeout = timeout
        self._size = BatchSize(batch, batch_seconds)
        self._observer = observer
        self._lost = lost
        self._stuck = stuck
        self._queue = FairQueue()
        self._unmeasured: deque[Pending] = deque()
        self._running: deque[Pending] = deque()
        self._bytes = 0
        self._numbers = 0
        self._pumping = False
        self._loop = asyncio.get_running_loop()
        self.links: list[Link] = []
        self.waiting = 0  # calls in the queue that somebody waits for
        self.waiting_tokens = 0  # of their prompts, as far as they are counted
        self.unfinished = 0  # calls without an answer, waiting or running

    def submit(
        self, call: Call, arrived: float, answer: OnAnswer, part: OnPart | None = None, owner: str = ""
    ) -> Pending:
        """Take a call. `answer` is called once, unless it is cancelled. Raises Overloaded.

        Owners take turns where calls have to wait.
        """
        if not self.links:
            raise Overloaded("The model is not ready.", 503)
        size = len(call.body)
        if (self.waiting >= self._most and not self._anyone_free()) or self._bytes + size > self._most_bytes:
            raise Overloaded("Too many requests are waiting. Try again.", 429)
        pending = Pending(call, arrived, answer, part, owner)
        self._queue.append(pending)
        if call.protocol in GENERATING:
            self._unmeasured.append(pending)
        self._bytes += size
        self.waiting += 1
        self.unfinished += 1
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)  # after everything that has arrived by now
        return pending

    def cancel(self, pending: Pending) -> None:
        """Nobody waits for it any more. What has not begun never will."""
        if pending.done:
            return
        self._settle(pending)
        if pending.running is not None:
            link, number = pending.running
            if pending.part is not None:
                link.send(Cancel(number))

    def flow(self, pending: Pending, go: bool) -> None:
        """Have the parts of a stream wait for its client, or come again."""
        if not pending.done and pending.running is not None:
            link, number = pending.running
            link.send(Flow(number, go))

    def expire(self, now: float) -> None:
        """Answer what is too late with 504, and tell of workers that are stuck. Called every moment.

        A text is late when nothing more of it has been written for so long, however long it is.
        """
        late = now - self._timeout
        for pending in self._queue.arrived_before(late):
            self.cancel(pending)
            self._tell(pending, _LATE)
        self._queue.compact(self.waiting)
        for pending in self._running:
            if not pending.done and pending.heard < late:
                self.cancel(pending)
                self._tell(pending, _LATE)
        self._running = deque(pending for pending in self._running if not pending.done)
        for link in self.links:
            if any(now - began > self._timeout + HANG_SECONDS for began in link.began.values()):
                self._stuck(link.pid)

    def fail_waiting(self) -> None:
        """No worker is left to ask: answer everything that waits with 503."""
        for pending in self._queue:
            self._settle(pending)
            self._tell(pending, _GONE)

    def bound_tokens(self, tokens: int) -> None:
        """Let prompts of so many tokens wait, where nothing else was set."""
        if self._most_tokens is None:
            self._most_tokens = tokens

    def single(self) -> None:
        """The model cannot batch: one call at a time."""
        self._size = BatchSize(1, 1.0)

    # what links report

    def joined(self, link: Link) -> None:
        self.links.append(link)
        self._pump()

    def left(self, link: Link) -> None:
        if link in self.links:
            self.links.remove(link)
        lost = 0
        for pendings in link.works.values():
            for pending in pendings:
                if not pending.done:
                    lost += 1
                    self._settle(pending)
                    self._tell(pending, _GONE)
        if link.measuring is not None and _waits(link.measuring[1]):
            self._settle(link.measuring[1])  # never again: it may have been what ended the process
            self._tell(link.measuring[1], _GONE)
        link.measuring = None
        link.works.clear()
        link.began.clear()
        link.places.clear()
        self._lost(link.pid, lost)

    def finished(self, link: Link, done: Done) -> None:
        pendings = link.works.pop(done.number, None)
        began = link.began.pop(done.number, None)
        link.places.pop(done.number, None)
        if pendings is None or began is None:
            return
        for number, next_began in link.began.items():  # the next one has been waiting for this one
            link.began[number] = max(next_began, time.monotonic())
            break
        link.answered += 1
        if done.generated is not None:
            self._observer.generated(pendings[0].protocol, pendings[0].waited, done.generated)
        self._pump()  # first, so that the worker goes on while the answers are written
        if len(pendings) == len(done.answers):
            for pending, answer in zip(pendings, done.answers):  # noqa: B905  # equally long
                if not pending.done:
                    self._settle(pending)
                    self._tell(pending, answer)
        self._size.observe(len(pendings), done.seconds)
        self._observer.batch(len(pendings), done.instances, done.seconds, done.predicting)

    def part(self, link: Link, part: Part) -> None:
        pendings = link.works.get(part.number)
        pending = pendings[0] if pendings else None
        if pending is None or pending.part is None:
            return
        if pending.protocol in GENERATING:
            link.began[part.number] = pending.heard = time.monotonic()
        if not pending.done and part.content:
            pending.part(part.content)

    def texts_left(self, link: Link, left: Left) -> None:
        link.left(left)
        self._pump()

    def measured(self, link: Link, measured: Measured) -> None:
        if link.measuring is None or link.measuring[0] != measured.number:
            return
        pending = link.measuring[1]
        link.measuring = None
        if _waits(pending):
            full = self._most_tokens is not None and self.waiting_tokens + measured.tokens > self._most_tokens
            if measured.refusal is not None or (full and self.waiting_tokens):  # one alone may always wait
                self._settle(pending)
                self._tell(pending, measured.refusal or _FULL)
            else:
                pending.tokens = measured.tokens
                self.waiting_tokens += measured.tokens
        self._measure()

    # within

    def _anyone_free(self) -> bool:
        return any(link.free > 0 for link in self.links)

    def _settle(self, pending: Pending) -> None:
        pending.done = True
        self.unfinished -= 1
        if pending.running is None:
            self.waiting -= 1
            self._bytes -= len(pending.call.body)
            self.waiting_tokens -= pending.tokens
            pending.call = _SENT

    def _tell(self, pending: Pending, answer: Answer) -> None:
        """Hand an answer over. What fails there concerns nobody else on the same link."""
        try:
            pending.answer(answer)
        except Exception as error:
            self._loop.call_exception_handler({"message": "an answer could not be sent", "exception": error})

    def _pump(self) -> None:
        self._pumping = False
        self._send_out()
        for link in self.links:
            if link.places:
                link.share()
        self._measure()

    def _send_out(self) -> None:
        """Give free workers what waits."""
        while (first := self._queue.first()) is not None:
            link = max(self.links, key=_free, default=None)
            if link is None or link.free <= -1 or (link.free == 0 and not self._sent_ahead(first)):
                return
            batch = self._take()
            if not batch:
                return
            self._numbers = number = self._numbers + 1
            now = time.monotonic()
            for pending in batch:
                pending.running = (link, number)
                self.waiting -= 1
                self._bytes -= len(pending.call.body)
                self.waiting_tokens -= pending.tokens
                pending.waited = now - pending.arrived
                self._observer.waited(pending.waited)
            self._running.extend(batch)
            while self._running and self._running[0].done:
                self._running.popleft()
            link.works[number] = batch
            link.began[number] = now
            link.send(Work(number, [pending.call for pending in batch], batch[0].part is not None))
            for pending in batch:
                pending.call = _SENT

    def _measure(self) -> None:
        """Have workers count the tokens of what waits, one prompt at a time each."""
        while self._unmeasured:
            link = next((link for link in self.links if link.measuring is None), None)
            if link is None:
                return
            pending = self._unmeasured.popleft()
            if _waits(pending):
                self._numbers = number = self._numbers + 1
                link.measuring = (number, pending)
                link.send(Measure(number, pending.call))

    def _sent_ahead(self, first: Pending) -> bool:
        """Whether the next batch is sent to a busy worker: where it cannot become any larger, and work is short.

        It could not be given to another worker that becomes free, nor taken back when its client goes away. So work
        that is long (texts and streams may take minutes) waits here, and so does, with several workers, a call that
        would go alone: of such calls any may be much longer than usual, and hold up the one behind it.
        """
        limit = self._size.limit
        if self.waiting < limit or not self._size.short or (limit == 1 and len(self.links) > 1):
            return False
        return first.part is None and first.protocol not in GENERATING

    def _take(self) -> list[Pending]:
        """The next batch: a stream alone, else as many calls as can be done in good time."""
        batch: list[Pending] = []
        queue = self._queue
        most = self._size.limit
        size = 0
        while len(batch) < most and (pending := queue.first()) is not None:
            size += len(pending.call.body)
            if batch and (pending.part is not None or size > BATCH_BYTES):
                break
            queue.take()
            batch.append(pending)
            if pending.part is not None:
                break
        return batch


def _free(link: Link) -> int:
    return link.free


def _waits(pending: Pending) -> bool:
    """Whether its turn has not come yet, and somebody waits for it."""
    return not pending.done and pending.running is None


def _error(status: int, message: str) -> Answer:
    return Answer(status, b'{"error":"%s"}' % message.encode())


_SENT = Call("predict", b"")
_FULL = _error(429, "Too many tokens are waiting. Try again.")
_LATE = _error(504, "The answer took too long.")
_GONE = _error(503, "The process with the model ended. Try again.")
