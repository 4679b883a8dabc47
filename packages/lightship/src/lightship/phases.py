"""How long each phase of a build took, as the summary prints it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Phases:
    """A list of named durations in seconds, in the order in which the phases began."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block; a second block of the same name adds to the first."""
        start = time.monotonic()
        self._seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - start

    def items(self) -> tuple[tuple[str, float], ...]:
        return tuple(self._seconds.items())

    @property
    def total(self) -> float:
        return sum(self._seconds.values())
