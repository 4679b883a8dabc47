"""The model's bytes on their way into memory while libraries are still being imported.

A local disk is told some way ahead what will be wanted, and the kernel reads it in the background; a byte at the end
of each chunk is waited for, so that it is known how far it is. A network file system answers one page fault at a
time, where it answers sixteen readers at once just as fast: so there the files are read, into nothing. Either way the
pages are in the kernel's cache when the engine opens the file.

The thread must have ended before the process forks: `stop` it, or leave the block.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHUNK = 8 << 20  # bytes that one reader takes at once
AHEAD = 8  # chunks that a local disk is told of before they are waited for: its queue is never empty
READERS = 16  # of a network file system; object stores give more only to several connections
_MAX_FILES = 1000
# File systems without a disk of their own underneath, by the names of /proc/self/mountinfo.
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "lustre", "glusterfs", "afs", "beegfs"})


@contextlib.contextmanager
def prefetched(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Iterator[Prefetch]:
    """Fetch the file, or the files of the folder, until the block ends. Never fails: what cannot be read is left."""
    prefetch = Prefetch(path, mounts)
    prefetch.start()
    try:
        yield prefetch
    finally:
        prefetch.stop()


class Prefetch:
    """Fetches the files of one model in a thread of its own.

    Attributes:
        fetched: Bytes that have come, as far as the end of each chunk shows it.
        total: Bytes that it is going to fetch; 0 until it has looked.
    """

    def __init__(self, path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
        self.fetched = 0
        self.total = 0
        self._path = path
        self._mounts = mounts
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Give up what has not begun, and wait for what has: at most one chunk per reader."""
        self._stopped.set()
        self._thread.join()

    def wait(self) -> None:
        """Wait until everything is there."""
        self._thread.join()

    @property
    def share(self) -> float | None:
        """How much has come, 0 to 1; None before it is known, and once nothing more is going to come."""
        fetched, total = self.fetched, self.total
        return fetched / total if fetched < total and self._thread.is_alive() else None

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            files = list(_fitting(_files(self._path)))
            self.total = sum(size for _, size in files)
            fetch = self._read if is_remote(self._path, self._mounts) else self._advise
            for file, size in files:
                if self._stopped.is_set():
                    return
                fetch(file, size)

    def _advise(self, file: Path, size: int) -> None:
        starts = range(0, size, CHUNK)
        with file.open("rb", buffering=0) as opened:
            descriptor = opened.fileno()
            for start in starts[:AHEAD]:
                os.posix_fadvise(descriptor, start, CHUNK, os.POSIX_FADV_WILLNEED)
            for start in starts:
                if self._stopped.is_set():
                    return
                if (next_start := start + AHEAD * CHUNK) < size:
                    os.posix_fadvise(descriptor, next_start, CHUNK, os.POSIX_FADV_WILLNEED)
                end = min(start + CHUNK, size)
                os.pread(descriptor, 1, end - 1)
                self.fetched += end - start

    def _read(self, file: Path, size: int) -> None:
        with file.open("rb", buffering=0) as opened, ThreadPoolExecutor(READERS, "prefetch") as pool:
            descriptor = opened.fileno()
            for count in pool.map(lambda start: self._chunk(descriptor, start), range(0, size, CHUNK)):
                self.fetched += count

    def _chunk(self, descriptor: int, start: int) -> int:
        if self._stopped.is_set():
            return 0
        return len(os.pread(descriptor, CHUNK, start))


def is_remote(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether the file system that holds `path` is reached over a network, or through FUSE. False where unknown.

    The mount is found by its device's number (man 5 proc_pid_mountinfo: the third field), its type follows the "-".
    """
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            kind = after.partition(" ")[0]
            return kind in _REMOTE or kind.startswith("fuse")
    return False


def _fitting(files: Iterable[tuple[Path, int]]) -> Iterator[tuple[Path, int]]:
    """The files that go into half of the memory: more would push itself out."""
    left = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    for file, size in files:
        if size > left:
            return
        left -= size
        yield file, size


def _files(path: Path) -> Iterable[tuple[Path, int]]:
    """The model's files with their sizes in bytes, the largest first."""
    if path.is_file():
        return [(path, path.stat().st_size)]
    found: list[tuple[Path, int]] = []
    for folder, _, names in os.walk(path):
        found += [(Path(folder, name), Path(folder, name).stat().st_size) for name in names[:_MAX_FILES]]
        if len(found) >= _MAX_FILES:
            break
    return sorted(found, key=lambda one: -one[1])[:_MAX_FILES]
