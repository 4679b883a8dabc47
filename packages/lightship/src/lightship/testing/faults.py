"""What can go wrong between a client and a registry, and when it shall."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum


class Fault(StrEnum):
    """One way in which a request fails."""

    TOO_MANY = "429"  # with Retry-After: 0
    ERROR = "500"
    UNAVAILABLE = "503"
    CUT_EARLY = "cut before the answer"  # a body is taken to its half first, and what came is kept
    CUT_LATE = "cut in the answer"  # after the request has had its effect
    SLOW = "slow"
    WRONG_DIGEST = "wrong digest"  # other bytes than were asked for, or another digest than that of what came
    TRUNCATED = "truncated body"  # of half the length, and with that length as Content-Length
    EXPIRED_TOKEN = "expired token"  # noqa: S105 - the token that came with the request is worth nothing any more


class Faults:
    """Picks the fault of each request.

    Args:
        rate: The share of requests that fail, from 0 to 1.
        seed: Of the chance, so that a failure can be had again.
        kinds: Among which chance chooses.
        delay: Seconds that a slow answer takes.
        choose: Decides by method and path instead of chance, where it is given.
    """

    def __init__(
        self,
        rate: float = 0.0,
        seed: int = 0,
        kinds: Sequence[Fault] = tuple(Fault),
        *,
        delay: float = 0.02,
        choose: Callable[[str, str], Fault | None] | None = None,
    ) -> None:
        self.rate = rate
        self.kinds = kinds
        self.delay = delay
        self.happened: list[Fault] = []
        self._choose = choose
        self._random = random.Random(seed)  # noqa: S311
        self._lock = threading.Lock()

    def pick(self, method: str, path: str) -> Fault | None:
        """The fault of a request that comes now, or None."""
        with self._lock:
            if self._choose:
                fault = self._choose(method, path)
            else:
                fault = self._random.choice(self.kinds) if self._random.random() < self.rate else None
            if fault:
                self.happened.append(fault)
            return fault
