"""Forward-only reading with bounds: what every binary format is read through.

Nothing larger than `MAX_READ` is ever held; payloads are skipped, by seeking where the file allows it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Protocol

from lightship.models.damage import damaged

CHUNK = 1 << 16  # bytes read at a time
MAX_READ = 1 << 20  # bytes that one field (a name, a string) may have; no format here needs more


class Readable(Protocol):
    """Anything with a bounded read: a file, a member of a zip, a decompressor."""

    def read(self, size: int, /) -> bytes: ...


class Stream:
    """Reads a source from front to back.

    Args:
        source: Where bytes come from.
        path: The file that errors name.
        size: Bytes of the source where it is a seekable file, so that skipping costs nothing; None where
            bytes must be read to be passed over.

    Raises:
        ProjectError: From every method, when the source ends too early or a length is beyond all reason.
    """

    def __init__(self, source: Readable, path: Path, *, size: int | None = None) -> None:
        self._source = source
        self._size = size
        self._buffer = b""
        self._next = 0
        self._start = 0  # position of the buffer's first byte
        self._parts = 0
        self.path = path

    @classmethod
    def of_file(cls, file: BinaryIO, path: Path) -> Stream:
        """A stream over an open plain file, from its current position on."""
        here = file.tell()
        size = file.seek(0, 2) - here
        file.seek(here)
        return cls(file, path, size=size)

    @property
    def position(self) -> int:
        """Bytes passed so far."""
        return self._start + self._next

    @property
    def remaining(self) -> int | None:
        """Bytes to come, where known."""
        return None if self._size is None else self._size - self.position

    def at_end(self) -> bool:
        return self._next >= len(self._buffer) and not self._fill()

    def byte(self) -> int:
        """The next byte as a number."""
        if self._next >= len(self._buffer) and not self._fill():
            raise self._truncated()
        value = self._buffer[self._next]
        self._next += 1
        return value

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, at most MAX_READ."""
        end = self._next + size
        if end <= len(self._buffer):
            data = self._buffer[self._next : end]
            self._next = end
            return data
        if size > MAX_READ:
            raise damaged(self.path, f"a field at byte {self.position} claims to be {size} bytes long")
        pieces = []
        while size:
            if self._next >= len(self._buffer) and not self._fill():
                raise self._truncated()
            piece = self._buffer[self._next : self._next + size]
            self._next += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes, however many."""
        if self._size is not None and size > self._size - self.position:
            raise self._truncated()
        inside = min(size, len(self._buffer) - self._next)
        self._next += inside
        size -= inside
        if size and self._size is not None:
            assert hasattr(self._source, "seek")
            self._start = self.position + size
            self._buffer, self._next = b"", 0
            self._source.seek(size, 1)
            return
        while size:
            if not self._fill():
                raise self._truncated()
            self._next = min(size, len(self._buffer))
            size -= self._next

    def line(self, most: int) -> bytes | None:
        """The bytes up to the next newline, without it; None where they are more than `most`."""
        kept: list[bytes] = []
        size = 0
        while True:
            if self._next >= len(self._buffer) and not self._fill():
                raise self._truncated()
            end = self._buffer.find(b"\n", self._next)
            piece = self._buffer[self._next : end if end >= 0 else None]
            size += len(piece)
            if size <= most:
                kept.append(piece)
            self._next = end + 1 if end >= 0 else len(self._buffer)
            if end >= 0:
                return b"".join(kept) if size <= most else None

    def count(self, most: int) -> None:
        """Count one more of the parts that a format's files are made of; raises when they are more than `most`."""
        self._parts += 1
        if self._parts > most:
            raise damaged(self.path, f"it has more than {most:,} parts, which no model needs")

    def number(self, layout: struct.Struct) -> int:
        """One integer of the given layout."""
        (value,) = layout.unpack(self.read(layout.size))
        return int(value)

    def _fill(self) -> bool:
        self._start += len(self._buffer)
        self._buffer = self._source.read(CHUNK)
        self._next = 0
        return bool(self._buffer)

    def _truncated(self) -> Exception:
        return damaged(self.path, f"it ends in the middle of its data, at byte {self._start + len(self._buffer)}")


U8 = struct.Struct("<B")
U16 = struct.Struct("<H")
U32 = struct.Struct("<I")
I32 = struct.Struct("<i")
U64 = struct.Struct("<Q")
