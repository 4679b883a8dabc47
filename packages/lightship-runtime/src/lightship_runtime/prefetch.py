"""The model's bytes on their way into memory while libraries are still being imported.

A local disk is told which files will be wanted, and the kernel reads them in the background. A network file system
answers one page fault at a time, where it answers sixteen readers at once just as fast: so there the files are read,
into nothing. Either way the pages are in the kernel's cache when the engine opens the file.

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
READERS = 16  # of a network file system; object stores give more only to several connections
_MAX_FILES = 1000
# File systems without a disk of their own underneath, by the names of /proc/self/mountinfo.
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "lustre", "glusterfs", "afs", "beegfs"})


@contextlib.contextmanager
def prefetched(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Iterator[None]:
    """Fetch the file, or the files of the folder, until the block ends. Never fails: what cannot be read is left."""
    prefetch = Prefetch(path, mounts)
    prefetch.start()
    try:
        yield
    finally:
        prefetch.stop()


class Prefetch:
    """Fetches the files of one model in a thread of its own. `fetched` counts the bytes that were asked for."""

    def __init__(self, path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
        self.fetched = 0
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

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            files = list(_files(self._path))
            remote = is_remote(self._path, self._mounts)
            left = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # more would push itself out
            for file, size in files:
                if self._stopped.is_set() or size > left:
                    return
                left -= size
                if remote:
                    self._read(file, size)
                else:
                    self._advise(file, size)

    def _advise(self, file: Path, size: int) -> None:
        with file.open("rb", buffering=0) as opened:
            for start in range(0, size, CHUNK):
                if self._stopped.is_set():
                    return
                os.posix_fadvise(opened.fileno(), start, CHUNK, os.POSIX_FADV_WILLNEED)
                self.fetched += min(CHUNK, size - start)

    def _read(self, file: Path, size: int) -> None:
        with file.open("rb", buffering=0) as opened, ThreadPoolExecutor(READERS, "prefetch") as pool:
            descriptor = opened.fileno()
            self.fetched += sum(pool.map(lambda start: self._chunk(descriptor, start), range(0, size, CHUNK)))

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
