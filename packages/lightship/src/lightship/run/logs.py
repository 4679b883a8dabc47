"""The last of what a container said, however much it says."""

from __future__ import annotations

import os
from threading import Lock, Thread

KEPT = 1 << 20  # bytes


class LogTail:
    """Reads a pipe to its end in a thread of its own and keeps the last MiB. Nothing is left on disk."""

    def __init__(self, descriptor: int, kept: int = KEPT) -> None:
        self._descriptor = descriptor
        self._kept = kept
        self._content = bytearray()
        self._lock = Lock()
        self._thread = Thread(target=self._read, name="container log", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What is kept, from the beginning of a line where anything was dropped."""
        with self._lock:
            content = bytes(self._content[-self._kept :])
            dropped = len(self._content) > self._kept
        if dropped:
            content = content[content.find(b"\n") + 1 :]
        return content.decode("utf-8", "replace")

    def finish(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until everything that was said has been read."""
        self._thread.join(timeout)

    def _read(self) -> None:
        with os.fdopen(self._descriptor, "rb", buffering=0) as pipe:
            while piece := pipe.read(65536):
                with self._lock:
                    self._content += piece
                    if len(self._content) > 2 * self._kept:  # rarely, so that dropping costs little
                        del self._content[: -self._kept - 1]
