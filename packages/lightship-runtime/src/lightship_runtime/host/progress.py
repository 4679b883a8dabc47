"""How far loading is, told while it goes on: the share of the model's bytes that have come into memory.

When all have come there is nothing more to tell: what the library then makes of them takes as long as it takes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

SECONDS = 0.25  # between two looks

Announce = Callable[[str, float | None], None]


class Progress(Protocol):
    """What knows how far something is."""

    @property
    def share(self) -> float | None:
        """0 to 1; None where unknown."""


@contextlib.contextmanager
def telling(phase: str, progress: Progress, announce: Announce, seconds: float = SECONDS) -> Iterator[None]:
    """Announce the share every now and then until the block ends; no thread is left then, so that one may fork."""
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(phase, progress, announce, ended, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(phase: str, progress: Progress, announce: Announce, ended: threading.Event, seconds: float) -> None:
    told: float | None = None
    with contextlib.suppress(OSError):  # nobody listens any more: whoever loads will notice
        while not ended.wait(seconds):
            share = progress.share
            if share is not None or told is not None:
                announce(phase, share)
            told = share
