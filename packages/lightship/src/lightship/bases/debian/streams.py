"""Streams of bytes of unknown size: read as exact amounts, decompressed piece by piece."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import zstandard

from lightship.cache import CHUNK
from lightship.errors import IntegrityError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_MOST_MEMORY = 256 << 20  # bytes that a dictionary may take; dpkg-deb writes at most 64 MiB


class ByteStream:
    """Pieces of bytes of any size, read as exact amounts."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._position = 0

    def some(self, most: int) -> bytes:
        """At least one and at most `most` bytes; nothing at the end."""
        while self._position == len(self._held):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._held, self._position = piece, 0
        taken = self._held[self._position : self._position + most]
        self._position += len(taken)
        return taken

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes, which the caller knows to be few."""
        taken = self.some(size)
        while len(taken) < size:
            if not (more := self.some(size - len(taken))):
                raise IntegrityError("it ends too early")
            taken += more
        return taken

    def skip(self, size: int) -> None:
        while size:
            if not (piece := self.some(min(size, CHUNK))):
                raise IntegrityError("it ends too early")
            size -= len(piece)


def decompressed(pieces: Iterator[bytes], suffix: str) -> Iterator[bytes]:
    """The plain bytes of a stream, in pieces that stay small, whatever the ratio.

    Args:
        suffix: How the stream is compressed, by the end of its file name: .xz, .gz, .zst or nothing.
    """
    match suffix:
        case ".xz":
            return _from_xz(pieces)
        case ".gz":
            return _from_gzip(pieces)
        case ".zst":
            return _from_zstandard(pieces)
        case "":
            return pieces
    raise IntegrityError(f"it is compressed in a way that is not known ({suffix})")


def _from_xz(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)
    while not decompressor.eof:
        piece = _next(pieces) if decompressor.needs_input else b""
        yield decompressor.decompress(piece, CHUNK)


def _from_gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(31)  # a gzip header is expected
    while not decompressor.eof:
        yield decompressor.decompress(decompressor.unconsumed_tail or _next(pieces), CHUNK)


def _from_zstandard(pieces: Iterator[bytes]) -> Iterator[bytes]:
    source = io.BufferedReader(_Raw(pieces))
    yield from zstandard.ZstdDecompressor(max_window_size=_MOST_MEMORY).read_to_iter(source, write_size=CHUNK)


def _next(pieces: Iterator[bytes]) -> bytes:
    piece = next(pieces, None)
    if piece is None:
        raise IntegrityError("it ends too early")
    return piece


class _Raw(io.RawIOBase):
    """A file of pieces, which is what zstandard wants to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._stream = ByteStream(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        taken = self._stream.some(len(view))
        view[: len(taken)] = taken
        return len(taken)
