"""The one thread that a model writes in, and the queue by which others reach it.

Libraries that write several texts step by step want all steps from one thread.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from queue import SimpleQueue
from typing import Generic, TypeVar

Job = TypeVar("Job")


class JobThread(ABC, Generic[Job]):
    """Takes jobs from any thread; None in the queue is the end."""

    def __init__(self) -> None:
        """Begin the thread: a class of this kind calls it last, when it has all that `_run` needs."""
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="generate", daemon=True)
        self._thread.start()

    def begin(self, job: Job) -> None:
        """Have a job written."""
        self._jobs.put(job)

    def close(self) -> None:
        """End the thread, and wait for that."""
        self._jobs.put(None)
        self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Work on the jobs until the end."""
