"""Calls that wait for their turn: those of one owner in order of arrival, the owners by turns.

So one that sends a thousand requests at once does not make the others wait for all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lightship_runtime.payload.call import Answer, Call

if TYPE_CHECKING:
    from lightship_runtime.front.links import Link

OnAnswer = Callable[[Answer], None]
OnPart = Callable[[bytes], None]


class Pending:
    """A call between its arrival and its answer. Its `call` is let go once it is sent on or of no use any more.

    `heard` is when something was last heard of it, at first its arrival, `waited` how many seconds it waited for its
    turn, `tokens` those of its prompt while it waits and they are counted; `owner` the name of its API key.
    """

    __slots__ = (
        "answer",
        "arrived",
        "call",
        "done",
        "heard",
        "owner",
        "part",
        "protocol",
        "running",
        "tokens",
        "waited",
    )

    def __init__(self, call: Call, arrived: float, answer: OnAnswer, part: OnPart | None, owner: str) -> None:
        self.call = call
        self.protocol = call.protocol
        self.arrived = self.heard = arrived
        self.waited = 0.0
        self.tokens = 0
        self.owner = owner
        self.answer = answer
        self.part = part
        self.done = False
        self.running: tuple[Link, int] | None = None


class FairQueue:
    """A line of calls for each owner. Calls that are done meanwhile are passed over."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Pending]] = {}  # none is empty; whose turn it is comes first

    def append(self, pending: Pending) -> None:
        """Put a call at the end of its owner's line."""
        line = self._lines.get(pending.owner)
        if line is None:
            self._lines[pending.owner] = deque((pending,))
        else:
            line.append(pending)

    def first(self) -> Pending | None:
        """The next call; None where nothing waits."""
        while self._lines:
            owner, line = next(iter(self._lines.items()))
            while line and line[0].done:
                line.popleft()
            if line:
                return line[0]
            del self._lines[owner]
        return None

    def take(self) -> None:
        """Take out what `first` has given; it is the next owner's turn."""
        owner, line = next(iter(self._lines.items()))
        line.popleft()
        if not line:
            del self._lines[owner]
        elif len(self._lines) > 1:
            self._lines[owner] = self._lines.pop(owner)

    def arrived_before(self, time: float) -> list[Pending]:
        """The calls that have come before a time, to be ended by the caller; they are not in the queue any more."""
        late = []
        for line in self._lines.values():
            while line and (line[0].done or line[0].arrived < time):
                pending = line.popleft()
                if not pending.done:
                    late.append(pending)
        self._lines = {owner: line for owner, line in self._lines.items() if line}
        return late

    def compact(self, waiting: int) -> None:
        """Let go of calls that are done, where they are more than those that are not: `waiting` of them."""
        if waiting * 2 < sum(map(len, self._lines.values())):
            kept = {owner: deque(one for one in line if not one.done) for owner, line in self._lines.items()}
            self._lines = {owner: line for owner, line in kept.items() if line}

    def __iter__(self) -> Iterator[Pending]:
        """Every call that is not done."""
        for line in list(self._lines.values()):
            yield from [pending for pending in line if not pending.done]
