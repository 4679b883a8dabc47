"""How a layer's bytes are stored: plain, gzip, eStargz (gzip with a table of contents) or zstd.

The compressor's name, version and level are part of every cache key (`Compression.key`), because a new version
of a compressor may write other bytes for the same content (BuildKit had to version its zstd output for that
reason: docs/build-repro.md in its repository).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from enum import StrEnum
from typing import BinaryIO, Protocol

import zstandard

from lightship.cache import CHUNK
from lightship.errors import IntegrityError
from lightship.layers.estargz import CHUNK_SIZE
from lightship.layers.estargz import VERSION as ESTARGZ_VERSION
from lightship.layers.gzip_members import DEFLATE, MEMBER_SIZE, SPLICE_FROM, GzipMembers, gunzipped
from lightship.layers.gzip_members import VERSION as GZIP_VERSION

ZSTD_LEVEL = 3  # on Python packages smaller than gzip -6, 16 times as fast to write and 4.7 times to read


class Compression(StrEnum):
    """The compression of a layer, by the name that users write in `[image] compression`."""

    NONE = "none"
    GZIP = "gzip"
    ESTARGZ = "estargz"
    ZSTD = "zstd"

    @property
    def media_type(self) -> str:
        """The OCI media type of a layer stored this way."""
        suffix = {Compression.NONE: "", Compression.ZSTD: "+zstd"}.get(self, "+gzip")
        return f"application/vnd.oci.image.layer.v1.tar{suffix}"

    @property
    def key(self) -> str:
        """What decides the compressed bytes besides the content."""
        if self is Compression.ZSTD:
            version = ".".join(map(str, zstandard.ZSTD_VERSION))
            return f"zstd-{version}-{ZSTD_LEVEL}-one-thread"  # workers would write other bytes
        if self is Compression.GZIP:
            # What is spliced depends on its wheel alone; the rest depends on libdeflate.
            return f"gzip-members-{GZIP_VERSION}-{SPLICE_FROM}-{MEMBER_SIZE}-{DEFLATE}"
        if self is Compression.ESTARGZ:
            return f"estargz-{ESTARGZ_VERSION}-{CHUNK_SIZE}-{DEFLATE}"
        return "none"

    @classmethod
    def of_media_type(cls, media_type: str) -> Compression:
        """The compression that an OCI or Docker layer media type names; eStargz is gzip with something more."""
        if media_type.endswith(("zstd",)):
            return cls.ZSTD
        if media_type.endswith(("gzip",)):
            return cls.GZIP
        if media_type.endswith(("tar",)):
            return cls.NONE
        raise IntegrityError(f"Unknown layer media type {media_type!r}.")


class Compressor(Protocol):
    """An incremental compressor, as zstandard has them."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(compression: Compression) -> Compressor:
    """A fresh compressor whose output depends on nothing but its input. (eStargz takes more: `estargz_stream`.)"""
    if compression is Compression.ZSTD:
        # No worker threads: several layers are made at once anyway, at 300 MB/s each; a worker would cost 40 MB of
        # memory, and the bytes would be others.
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, write_content_size=False).compressobj()
    if compression is Compression.GZIP:
        return GzipMembers()
    return _Plain()


def decompressed(file: BinaryIO, compression: Compression) -> Iterator[bytes]:
    """The plain bytes of a stored layer, in pieces."""
    try:
        if compression is Compression.ZSTD:
            yield from zstandard.ZstdDecompressor().read_to_iter(file, read_size=CHUNK)
        elif compression in (Compression.GZIP, Compression.ESTARGZ):
            yield from gunzipped(file)
        else:
            while chunk := file.read(CHUNK):
                yield chunk
    except (zstandard.ZstdError, zlib.error, EOFError) as error:
        raise IntegrityError(f"A layer's {compression} stream is damaged: {error}.") from error
