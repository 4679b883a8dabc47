"""From waiting calls to batches for the workers, and from their answers back to whoever waits.

A call goes to a worker that is free at once, together with whatever else has arrived meanwhile. While all are busy
calls gather, and the next free worker takes as many as it can do in good time. So a lone call never waits for
company, and a busy server makes large batches.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

from lightship_runtime.frames import Cancel, Done, Flow, Frames, Part, Work, done_decoder, frame
from lightship_runtime.front.batching import BatchSize
from lightship_runtime.payload.call import GENERATING, Answer, Call, Generated, Protocol

BATCH_BYTES = 64 << 20  # of bodies in one batch
HANG_SECONDS = 30.0  # beyond the deadline of its requests, after which a worker is taken for stuck

OnAnswer = Callable[[Answer], None]
OnPart = Callable[[bytes], None]


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


class Pending:
    """A call between its arrival and its answer. Its `call` is let go once it is sent on or of no use any more.

    `heard` is when something was last heard of it, `waited` how many seconds it waited for its turn.
    """

    __slots__ = ("answer", "arrived", "call", "done", "heard", "part", "protocol", "running", "waited")

    def __init__(self, call: Call, arrived: float, answer: OnAnswer, part: OnPart | None) -> None:
        self.call = call
        self.protocol = call.protocol
        self.arrived = self.heard = arrived
        self.waited = 0.0
        self.answer = answer
        self.part = part
        self.done = False
        self.running: tuple[Link, int] | None = None


class Link(asyncio.Protocol):
    """The connection to one worker, and how many batches it has `answered`."""

    def __init__(self, dispatcher: Dispatcher, pid: int, slots: int) -> None:
        self.pid = pid
        self.answered = 0
        self.works: dict[int, list[Pending]] = {}
        self.began: dict[int, float] = {}
        self.slots = slots
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
            else:
                self._dispatcher.part(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._dispatcher.left(self)

    def send(self, message: Work | Cancel | Flow) -> None:
        if self._transport is not None:
            self._transport.write(frame(message))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Dispatcher:
    """The queue, and the workers that take from it.

    `lost` is called with the number of a worker's process when it has gone.
    """

    def __init__(
        self,
        *,
        queue: int,
        queue_bytes: int,
        timeout: float,
        batch: int,
        batch_seconds: float,
        observer: Observer,
        lost: Callable[[int, int], None],
        stuck: Callable[[int], None],
    ) -> None:
        self._most = queue
        self._most_bytes = queue_bytes
        self._timeout = timeout
        self._size = BatchSize(batch, batch_seconds)
        self._observer = observer
        self._lost = lost
        self._stuck = stuck
        self._queue: deque[Pending] = deque()
        self._running: deque[Pending] = deque()  # in the order of arrival, so that the first is the first to expire
        self._bytes = 0
        self._numbers = 0
        self._pumping = False
        self._loop = asyncio.get_running_loop()
        self.links: list[Link] = []
        self.waiting = 0  # calls in the queue that somebody waits for
        self.unfinished = 0  # calls without an answer, waiting or running

    def submit(self, call: Call, arrived: float, answer: OnAnswer, part: OnPart | None = None) -> Pending:
        """Take a call. `answer` is called once, unless it is cancelled. Raises Overloaded."""
        if not self.links:
            raise Overloaded("The model is not ready.", 503)
        size = len(call.body)
        if (self.waiting >= self._most and not self._anyone_free()) or self._bytes + size > self._most_bytes:
            raise Overloaded("Too many requests are waiting. Try again.", 429)
        pending = Pending(call, arrived, answer, part)
        self._queue.append(pending)
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
        for queue in (self._queue, self._running):
            while queue and (queue[0].done or queue[0].arrived < late):
                pending = queue.popleft()
                if not pending.done and pending.heard >= late:
                    pending.arrived = pending.heard  # looked at again when everything that has come by then is late
                    queue.append(pending)
                elif not pending.done:
                    self.cancel(pending)
                    self._tell(pending, _LATE)
        # One that takes long must not keep all that came after it, which is done since.
        self._running = deque(pending for pending in self._running if not pending.done)
        if self.waiting * 2 < len(self._queue):
            self._queue = deque(pending for pending in self._queue if not pending.done)
        for link in self.links:
            if any(now - began > self._timeout + HANG_SECONDS for began in link.began.values()):
                self._stuck(link.pid)

    def fail_waiting(self) -> None:
        """No worker is left to ask: answer everything that waits with 503."""
        while self._queue:
            pending = self._queue.popleft()
            if not pending.done:
                self._settle(pending)
                self._tell(pending, _GONE)

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
        link.works.clear()
        link.began.clear()
        self._lost(link.pid, lost)

    def finished(self, link: Link, done: Done) -> None:
        pendings = link.works.pop(done.number, None)
        began = link.began.pop(done.number, None)
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

    # within

    def _anyone_free(self) -> bool:
        return any(link.free > 0 for link in self.links)

    def _settle(self, pending: Pending) -> None:
        pending.done = True
        self.unfinished -= 1
        if pending.running is None:
            self.waiting -= 1
            self._bytes -= len(pending.call.body)
            pending.call = _SENT

    def _tell(self, pending: Pending, answer: Answer) -> None:
        """Hand an answer over. What fails there concerns nobody else on the same link."""
        try:
            pending.answer(answer)
        except Exception as error:
            self._loop.call_exception_handler({"message": "an answer could not be sent", "exception": error})

    def _pump(self) -> None:
        self._pumping = False
        queue = self._queue
        while queue:
            link = max(self.links, key=_free, default=None)
            if link is None or link.free <= -1 or (link.free == 0 and not self._sent_ahead()):
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

    def _sent_ahead(self) -> bool:
        """Whether the next batch is sent to a busy worker: where it cannot become any larger, and work is short.

        It could not be given to another worker that becomes free, nor taken back when its client goes away. So work
        that is long (texts and streams may take minutes) waits here, and so does, with several workers, a call that
        would go alone: of such calls any may be much longer than usual, and hold up the one behind it.
        """
        limit = self._size.limit
        if self.waiting < limit or not self._size.short or (limit == 1 and len(self.links) > 1):
            return False
        first = self._queue[0]
        return first.part is None and first.protocol not in GENERATING

    def _take(self) -> list[Pending]:
        """The next batch: a stream alone, else as many calls as can be done in good time."""
        batch: list[Pending] = []
        queue = self._queue
        most = self._size.limit
        size = 0
        while queue and len(batch) < most:
            pending = queue[0]
            if pending.done:
                queue.popleft()
                continue
            size += len(pending.call.body)
            if batch and (pending.part is not None or size > BATCH_BYTES):
                break
            batch.append(queue.popleft())
            if pending.part is not None:
                break
        return batch


def _free(link: Link) -> int:
    return link.free


def _error(status: int, message: str) -> Answer:
    return Answer(status, b'{"error":"%s"}' % message.encode())


_SENT = Call("predict", b"")
_LATE = _error(504, "The answer took too long.")
_GONE = _error(503, "The process with the model ended. Try again.")
