"""Says that memory runs out before the kernel does: its OOM killer leaves no word in any log of the container."""

from __future__ import annotations

from collections.abc import Callable

from lightship_runtime.log import Log
from lightship_runtime.memory import Memory, container_memory

ALARM = 0.92  # of the limit
CALM = 0.85  # below which the next alarm is a new one
SECONDS = 2.0  # between two looks


class MemoryWatch:
    """Looks at the container's account every other second, and logs once when it is nearly used up."""

    def __init__(self, log: Log, look: Callable[[], Memory | None] = container_memory) -> None:
        self._log = log
        self._look = look
        self._next = 0.0
        self._alarmed = False

    def check(self, now: float) -> None:
        """Look, if it is time to. `now` in seconds of any clock that goes on."""
        if now < self._next:
            return
        self._next = now + SECONDS
        memory = self._look()
        if memory is None:
            self._next = float("inf")  # a limit does not appear later
            return
        if memory.share > ALARM and not self._alarmed:
            self._alarmed = True
            self._log.event(
                "memory nearly used up",
                level="warning",
                used=memory.used,
                limit=memory.limit,
                message="The kernel ends the process with the model at the limit. Give the container more "
                "memory, or serve with fewer workers, smaller batches or a shorter queue.",
            )
        elif memory.share < CALM:
            self._alarmed = False
