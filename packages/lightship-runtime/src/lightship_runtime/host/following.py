"""Streams whose models write in threads of their own: one thread sends on what all of them have written.

A thread for each would have to be woken, and given Python's lock, for each token of each text, and would send each by
itself. Here what several texts have got in one step of the model goes in one message to whoever listens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from lightship_runtime.payload.call import Outcome, Protocol

_TOGETHER = 0.001  # seconds to wait for what the other texts get in the same step, where there are others


@dataclass(eq=False)
class Stream:
    """One answer in parts on its way.

    Attributes:
        number: Of the work.
        protocol: Of its call.
        parts: The parts to come.
        outcome: Filled in by them.
        began: When work on it began, by the performance counter.
        said: When something was last said of it.
        stalled: Whether its client takes nothing now.
        cancelled: Whether nobody waits for it any more.
        followed: Whether `Following` has it, and nobody else asks for its parts.
        held: Whether it was left as it is because it is `stalled`.
        ended: Whether there is nothing more to say.
    """

    number: int
    protocol: Protocol
    parts: Generator[bytes, None, None]
    outcome: Outcome
    began: float = field(default=0.0)
    said: float = field(default=0.0)
    stalled: bool = field(default=False)
    cancelled: bool = field(default=False)
    followed: bool = field(default=False)
    held: bool = field(default=False)
    ended: bool = field(default=False)


class Following:
    """The thread, which begins with the first stream."""

    def __init__(self, advance: Callable[[Stream], bytes], send: Callable[[bytes], None]) -> None:
        """`advance` gives what there is to say of a stream until it `awaits` something, is held, or has ended."""
        self._advance = advance
        self._send = send
        self._news: SimpleQueue[Stream | None] = SimpleQueue()
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None
        self._followed: set[Stream] = set()

    def follow(self, stream: Stream) -> None:
        """Send what a stream gets from now on. May be called from any thread."""
        with self._beginning:  # two streams may be the first, and two threads would ask one stream at once
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
                self._thread.start()
        stream.followed = True
        self._followed.add(stream)
        self.look(stream)

    def look(self, stream: Stream) -> None:
        """There may be something to say of a stream."""
        self._news.put(stream)

    def close(self) -> None:
        """End the thread; what is on its way is dropped."""
        self._news.put(None)

    def _run(self) -> None:
        while (streams := self._due()) is not None:
            said = b"".join([self._advance(stream) for stream in streams if not stream.ended])
            if said:
                self._send(said)
            for stream in streams:
                if stream.ended:
                    self._followed.discard(stream)
                elif not stream.held:
                    self._when_ready(stream)

    def _when_ready(self, stream: Stream) -> None:
        awaited = stream.outcome.awaits
        if awaited is None or not awaited.when_ready(lambda: self.look(stream)):
            self.look(stream)

    def _due(self) -> list[Stream] | None:
        """The streams that have something, each once; waits for the first. None at the end."""
        streams = [self._news.get()]
        if len(self._followed) > 1:
            time.sleep(_TOGETHER)
        try:
            while True:
                streams.append(self._news.get_nowait())
        except Empty:
            pass
        due = [stream for stream in dict.fromkeys(streams) if stream is not None]
        return due if None not in streams else None
