"""Gzip layers that keep what a wheel has compressed already.

A gzip file is any number of members, one after the other (RFC 1952, section 2.2), and a member is a header, a raw
deflate stream, and the CRC-32 and size of its content. A wheel's large files are such streams, and its directory has
their CRC-32 and size: each becomes a member as it is. What lies between them (tar headers, padding, small files,
bytecode) is compressed here, one member for each gap. docs/compression.md has the figures.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from lightship.layers.tar import Deflated

VERSION = 1
GZIP_LEVEL = 6
SPLICE_FROM = 16 << 10  # compressed bytes; smaller files compress better together with their neighbours

# Deflate, no flags, no time, no extra flags, unknown system: the same everywhere.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class GzipMembers:
    """A compressor whose stream may be interrupted: after `end_member` other members may stand in between."""

    def __init__(self) -> None:
        self._started = False
        self._written = False
        self._deflate = _deflate()
        self._crc = self._size = 0

    def compress(self, data: bytes, /) -> bytes:
        """Compress plain bytes into the current gap's member, which begins with the first of them."""
        if not data:
            return b""
        before = b"" if self._started else _HEADER
        self._started = self._written = True
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        return before + self._deflate.compress(data)

    def flush(self) -> bytes:
        """End the current gap's member; a file without any member would be no gzip file, so one is always written."""
        if not self._started and self._written:
            return b""
        before = b"" if self._started else _HEADER
        ended = before + self._deflate.flush() + _trailer(self._crc, self._size)
        self._started, self._written = False, True
        self._deflate = _deflate()
        self._crc = self._size = 0
        return ended

    def end_member(self) -> bytes:
        """End the current gap's member where one has begun; whole members may follow (`gzip_member` makes them)."""
        ended = self.flush() if self._started else b""
        self._written = True
        return ended


def gzip_member(pieces: Iterable[Deflated], crc: int, size: int) -> Iterator[Deflated]:
    """A whole deflate stream as a member, given the CRC-32 and the size in bytes of its content."""
    yield Deflated(b"", _HEADER)
    yield from pieces
    yield Deflated(b"", _trailer(crc, size))


def _deflate() -> zlib._Compress:
    return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)


def _trailer(crc: int, size: int) -> bytes:
    return crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
