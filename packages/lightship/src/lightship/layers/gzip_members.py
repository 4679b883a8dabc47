"""Gzip layers that keep what a wheel has compressed already.

A gzip file is any number of members, one after the other (RFC 1952, section 2.2), and a member is a header, a raw
deflate stream, and the CRC-32 and size of its content. A wheel's large files are such streams, and its directory has
their CRC-32 and size: each becomes a member as it is. What lies between them (tar headers, padding, small files,
bytecode) is compressed here, in members of their own. docs/compression.md has the figures.

libdeflate compresses, in the version that the package `deflate` brings along: what zlib writes depends on which zlib
the machine's Python was linked with, while a version of libdeflate writes the same bytes on every processor
(ebiggers/libdeflate#400). It takes its input at once, so a member has a bounded size, and memory stays flat.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import deflate

from lightship.cache import CHUNK
from lightship.layers.tar import Deflated

VERSION = 2
GZIP_LEVEL = 6
SPLICE_FROM = 16 << 10  # compressed bytes; smaller files compress better together with their neighbours
MEMBER_SIZE = 1 << 20  # bytes of content in one member; four times as many save 0.1 %
DEFLATE = f"deflate-{deflate.__version__}-{GZIP_LEVEL}"  # what decides the compressed bytes besides the content

# Deflate, no flags, no time, no extra flags, unknown system: the same everywhere.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class GzipMembers:
    """A compressor whose stream may be interrupted: after `end_member` other members may stand in between.

    Where a member ends depends on the bytes alone, not on the pieces in which they come.

    Args:
        member_size: The most bytes of content in one member; as many are held in memory.
    """

    def __init__(self, member_size: int = MEMBER_SIZE) -> None:
        self._member_size = member_size
        self._pending = bytearray()
        self._written = False

    def compress(self, data: bytes, /) -> bytes:
        """Take plain bytes; returns the members that are full with them."""
        self._pending += data
        members = []
        while len(self._pending) >= self._member_size:
            members.append(_member(self._pending[: self._member_size]))
            del self._pending[: self._member_size]
        self._written |= bool(members)
        return b"".join(members)

    def flush(self) -> bytes:
        """End the last member; a file without any member would be no gzip file, so one is always written."""
        if self._pending or self._written:
            return self.end_member()
        self._written = True
        return _member(b"")

    def end_member(self) -> bytes:
        """End the current gap's member where one has begun; whole members may follow (`gzip_member` makes them)."""
        self._written = True
        if not self._pending:
            return b""
        ended = _member(self._pending)
        self._pending.clear()
        return ended


def gzip_member(pieces: Iterable[Deflated], crc: int, size: int) -> Iterator[Deflated]:
    """A whole deflate stream as a member, given the CRC-32 and the size in bytes of its content."""
    yield Deflated(b"", _HEADER)
    yield from pieces
    yield Deflated(b"", _trailer(crc, size))


def gunzipped(file: BinaryIO) -> Iterator[bytes]:
    """The content of every member of a gzip file, from where it stands, in pieces. Raises `zlib.error`."""
    member = zlib.decompressobj(31)
    while chunk := file.read(CHUNK):
        while chunk:
            yield member.decompress(chunk, CHUNK)  # bounded, so that a bomb unfolds piece by piece
            chunk = member.unconsumed_tail or member.unused_data
            if member.eof:
                member = zlib.decompressobj(31)
    yield member.flush()


def _member(content: bytes | bytearray) -> bytes:
    stream = deflate.deflate_compress(content, GZIP_LEVEL)
    return b"".join((_HEADER, stream, _trailer(zlib.crc32(content), len(content))))


def _trailer(crc: int, size: int) -> bytes:
    return crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
