"""Blobs that are not stored: small pieces at hand, and whole files that lie elsewhere, one after the other.

A layer of weights is their bytes with a few tar headers between them. Storing it would cost a second copy of files
that may be larger than what is left of the disk, so only the headers are kept, and where the files lie. A file that
is not as it was when it was hashed makes the blob one that is not there.
"""

from __future__ import annotations

import base64
import binascii
import errno
import io
import os
import shutil
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, cast

_CANNOT_COPY_RANGES = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)
CHANGED = "the file has changed since it was built in, or is gone"  # what errors of `Assembly.open` say
_SETTLED = 2_000_000_000  # nanoseconds; a file changed more recently may change again within one tick of its clock


@dataclass(frozen=True)
class FileState:
    """What changes when the content of a file does: its size in bytes, times in nanoseconds, and inode."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """The state of a file now; raises `OSError` where there is none."""
        found = Path(path).stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    def settled(self, now: int) -> bool:
        """Whether a later change would show; `now` in nanoseconds since 1970."""
        return now - self.modified > _SETTLED


@dataclass(frozen=True)
class FilePart:
    """A whole file, as long as it is in this state."""

    path: str
    state: FileState

    @property
    def size(self) -> int:
        return self.state.size

    def is_intact(self) -> bool:
        try:
            return FileState.of(self.path) == self.state
        except OSError:
            return False


Part = bytes | FilePart


@dataclass(frozen=True)
class Assembly:
    """The parts of a blob, in their order."""

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(_size(part) for part in self.parts)

    def is_intact(self) -> bool:
        """Whether every file is still what it was."""
        return all(part.is_intact() for part in self.parts if isinstance(part, FilePart))

    def open(self) -> BinaryIO:
        """The blob as a file to read. Raises `FileNotFoundError`, then or later, where a file is not what it was."""
        for part in self.parts:
            if isinstance(part, FilePart) and not part.is_intact():
                raise _changed(part)
        return cast(BinaryIO, io.BufferedReader(_Reader(self.parts), buffer_size=1 << 20))

    def write(self, target: Path) -> None:
        """Write the blob into a new file, sharing the files' extents where the file system can. Raises as `open`."""
        with target.open("wb") as out:
            for part in self.parts:
                if isinstance(part, bytes):
                    out.write(part)
                    continue
                out.flush()
                if not part.is_intact():
                    raise _changed(part)
                with Path(part.path).open("rb") as source:
                    _copy(source, out)
                if not part.is_intact():
                    raise _changed(part)

    def to_record(self) -> dict[str, Any]:
        return {"parts": [_part_record(part) for part in self.parts]}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Assembly | None:
        """The assembly that was written down; None for what is none."""
        try:
            return cls(tuple(_part_of_record(part) for part in record["parts"]))
        except (KeyError, TypeError, ValueError, binascii.Error):
            return None


def _size(part: Part) -> int:
    return len(part) if isinstance(part, bytes) else part.size


def _part_record(part: Part) -> dict[str, Any]:
    if isinstance(part, bytes):
        return {"bytes": base64.b64encode(part).decode()}
    state = part.state
    return {"file": part.path, "state": [state.size, state.modified, state.changed, state.inode]}


def _part_of_record(record: dict[str, Any]) -> Part:
    if "bytes" in record:
        return base64.b64decode(record["bytes"], validate=True)
    size, modified, changed, inode = (int(number) for number in record["state"])
    return FilePart(str(record["file"]), FileState(size, modified, changed, inode))


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    """Append a file. The kernel does it, and copies nothing where it can share (copy_file_range(2))."""
    size = os.fstat(source.fileno()).st_size
    done = 0
    try:
        while done < size and (copied := os.copy_file_range(source.fileno(), target.fileno(), size - done)):
            done += copied
    except OSError as error:
        if error.errno not in _CANNOT_COPY_RANGES:
            raise
    target.seek(0, os.SEEK_END)
    source.seek(done)
    shutil.copyfileobj(source, target, 1 << 20)


class _Reader(io.RawIOBase):
    """Reads the parts as one; files are opened when they are reached, and checked before and after."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._ends = list(accumulate(_size(part) for part in parts))
        self._position = 0
        self._opened: tuple[int, int] | None = None  # number of the part, descriptor

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._total}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        if self._position >= self._total:
            return 0
        number = bisect_right(self._ends, self._position)
        part = self._parts[number]
        within = self._position - (self._ends[number] - _size(part))
        view = memoryview(buffer).cast("B")
        if isinstance(part, bytes):
            piece = part[within : within + len(view)]
            view[: len(piece)] = piece
            read = len(piece)
        else:
            read = os.preadv(self._descriptor(number, part), [view[: part.size - within]], within)
            if read == 0 or (within + read == part.size and not part.is_intact()):
                raise _changed(part)
        self._position += read
        return read

    def close(self) -> None:
        self._close_file()
        super().close()

    @property
    def _total(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _descriptor(self, number: int, part: FilePart) -> int:
        if self._opened is None or self._opened[0] != number:
            self._close_file()
            if not part.is_intact():
                raise _changed(part)
            self._opened = (number, os.open(part.path, os.O_RDONLY | os.O_CLOEXEC))
        return self._opened[1]

    def _close_file(self) -> None:
        if self._opened is not None:
            os.close(self._opened[1])
            self._opened = None


def _changed(part: FilePart) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, CHANGED, part.path)
