"""Which files below a directory are opened, by whichever process: what a container really uses of its image.

The kernel tells (inotify(7)). Unlike a hook in Python, it sees what native code and the dynamic loader open; unlike
ptrace, it does not slow the container down; unlike fanotify, it needs no privilege; unlike access times, it does not
depend on how the file system was mounted. What it does not see: a file that is only looked for (stat(2)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import threading
from pathlib import Path
from types import TracebackType

from lightship.errors import EngineError

# sys/inotify.h
_OPEN = 0x00000020
_Q_OVERFLOW = 0x00004000
_ONLYDIR = 0x01000000
_ISDIR = 0x40000000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BUFFER = 1 << 18  # bytes read at a time: some thousand events
_LIMITS = {
    errno.ENOSPC: "fs.inotify.max_user_watches",
    errno.EMFILE: "fs.inotify.max_user_instances",
}


class OpenedFiles:
    """Watches every directory below `root`; `paths` are known when the block has ended.

    with OpenedFiles(root) as opened:
        ...
    opened.paths  # relative to root

    Raises:
        EngineError: The kernel's limits for inotify are too low, or it lost some that were opened at once.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._library = ctypes.CDLL(None, use_errno=True)
        self._directories: dict[int, str] = {}
        self._lost = False
        self._paths: set[str] = set()
        self._descriptor = -1

    @property
    def paths(self) -> frozenset[str]:
        """The files that were opened, relative to the root."""
        return frozenset(self._paths)

    def __enter__(self) -> OpenedFiles:
        self._descriptor = self._call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            for directory, _, _ in os.walk(self._root):
                watch = self._call("inotify_add_watch", self._descriptor, os.fsencode(directory), _OPEN | _ONLYDIR)
                self._directories[watch] = os.path.relpath(directory, self._root)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._drain()  # our own walk
        self._paths.clear()
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._read, name="lightship-opened", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._end)
        self._thread.join()
        os.close(self._ended)
        self._drain()
        os.close(self._descriptor)
        if self._lost and error is None:
            raise EngineError(
                "More files were opened at once than the kernel keeps count of, so not all of them are known.",
                hint="Raise the limit: `sudo sysctl -w fs.inotify.max_queued_events=262144`.",
            )

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while all(descriptor != self._ended for descriptor, _ in poll.poll()):
            self._drain()

    def _drain(self) -> None:
        """Take what the kernel has; it has it as soon as the file is open."""
        while True:
            try:
                events = os.read(self._descriptor, _BUFFER)
            except BlockingIOError:
                return
            position = 0
            while position < len(events):
                watch, mask, _, length = _EVENT.unpack_from(events, position)
                position += _EVENT.size
                name = os.fsdecode(events[position : position + length].rstrip(b"\0"))
                position += length
                if mask & _Q_OVERFLOW:
                    self._lost = True
                elif name and not mask & _ISDIR:
                    directory = self._directories[watch]
                    self._paths.add(name if directory == "." else f"{directory}/{name}")

    def _call(self, name: str, *arguments: object) -> int:
        result = int(getattr(self._library, name)(*arguments))
        if result >= 0:
            return result
        number = ctypes.get_errno()
        limit = _LIMITS.get(number)
        raise EngineError(
            f"Cannot see which files a container opens: {name} in {self._root}: {os.strerror(number)}.",
            hint=f"Raise the limit: `sudo sysctl -w {limit}=...`; it is too low for this image." if limit else None,
        )
