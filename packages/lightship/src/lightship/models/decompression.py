"""Compressed files as a bounded stream of their content: zlib, gzip, bzip2, xz and lzma, as joblib writes them."""

from __future__ import annotations

import bz2
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO

from lightship.errors import ProjectError
from lightship.models.damage import damaged

CHUNK = 1 << 16
# A model may well shrink 200-fold (arrays of zeros); what expands beyond this was made to exhaust its reader.
MAX_RATIO = 200
ALWAYS_ALLOWED = 1 << 30  # bytes
LZMA_MEMORY = 256 << 20  # bytes; the highest preset needs 65 MiB to decompress

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
_ZLIB_LEVELS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def compression_of(head: bytes) -> str | None:
    """The compression that the first bytes tell; None where they tell none."""
    if head[:2] in _ZLIB_LEVELS:
        return "zlib"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


class _Zlib:
    """zlib's object, which hands back unread input, behind the interface of the other two."""

    def __init__(self, window_bits: int) -> None:
        self._object = zlib.decompressobj(window_bits)
        self._rest = b""

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, limit: int) -> bytes:
        output = self._object.decompress(self._rest + data, limit)
        self._rest = self._object.unconsumed_tail
        return output

    @property
    def needs_input(self) -> bool:
        return not self._rest


class Decompressed:
    """The content of a compressed file, read piece by piece.

    Raises:
        ProjectError: From `read`, when the data is damaged or expands beyond all reason.
    """

    def __init__(self, file: BinaryIO, compression: str, path: Path) -> None:
        self._file = file
        self._compression = compression
        self._path = path
        self._object = _new(compression)
        self._produced = 0
        here = file.tell()
        self._limit = max(ALWAYS_ALLOWED, MAX_RATIO * (file.seek(0, 2) - here))
        file.seek(here)

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        while True:
            if self._object.eof and not self._next_member():
                return b""
            data = self._file.read(CHUNK) if self._object.needs_input else b""
            if output := self._decompressed(data, size):
                return output
            if not data and not self._object.eof:
                raise damaged(self._path, f"its {self._compression} data ends too early")

    def _decompressed(self, data: bytes, size: int) -> bytes:
        try:
            output = self._object.decompress(data, size)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
            raise damaged(self._path, f"its {self._compression} data is broken ({error})") from None
        self._produced += len(output)
        if self._produced > self._limit:
            raise ProjectError(
                f"{self._path} expands to more than {self._limit >> 20:,} MiB, {MAX_RATIO} times its size or more.",
                hint="No model looks like that. If this one does, save it without compression.",
            )
        return output

    def _next_member(self) -> bool:
        """gzip and its kin may hold several streams one after the other."""
        rest = self._object.unused_data + self._file.read(16)
        if compression_of(rest) != self._compression:
            return False
        self._file.seek(-len(rest), 1)
        self._object = _new(self._compression)
        return True


def _new(compression: str) -> _Zlib | bz2.BZ2Decompressor | lzma.LZMADecompressor:
    match compression:
        case "zlib":
            return _Zlib(zlib.MAX_WBITS)
        case "gzip":
            return _Zlib(16 + zlib.MAX_WBITS)
        case "bz2":
            return bz2.BZ2Decompressor()
        case "xz":
            return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=LZMA_MEMORY)
        case _:
            return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=LZMA_MEMORY)
