"""Writing a layer: the tar becomes stored bytes and a diff ID."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

from lightship.cache import BlobWriter
from lightship.layers.compression import Compression, compressor
from lightship.layers.estargz_stream import EstargzStream
from lightship.layers.gzip_members import SPLICE_FROM, GzipMembers
from lightship.layers.tar import Deflated, Sink, TarWriter

_NEVER = 1 << 62


class LayerSink(Sink, Protocol):
    """Takes the plain bytes of a layer from a tar writer and stores them."""

    size: int  # plain bytes so far

    @property
    def diff_id(self) -> str: ...

    def conclude(self, tar: TarWriter) -> tuple[tuple[str, str], ...]:
        """Close the archive and store what is left; returns the annotations of the layer's descriptor."""
        ...


def layer_sink(blob: BlobWriter, compression: Compression) -> LayerSink:
    """What writes a layer of this compression into a blob."""
    return EstargzStream(blob) if compression is Compression.ESTARGZ else LayerStream(blob, compression)


class LayerStream:
    """Between the tar writer and the blob: hashes the plain bytes (diff ID) and compresses them.

    Tar headers are 512 bytes; gathering them into larger pieces keeps the cost of a call per piece away.
    """

    def __init__(self, blob: BlobWriter, compression: Compression) -> None:
        self._blob = blob
        self._compressor = compressor(compression)
        self._hash = hashlib.sha256()
        self._pending: list[bytes] = []
        self._pending_size = 0
        self.splice_from = SPLICE_FROM if isinstance(self._compressor, GzipMembers) else _NEVER
        self.size = 0

    def write(self, data: bytes, /) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= 1 << 18:
            self._pass_on()

    def splice(self, pieces: Iterable[Deflated], size: int, /) -> None:
        assert isinstance(self._compressor, GzipMembers)
        self._pass_on()
        self._blob.write(self._compressor.end_member())
        for piece in pieces:
            self._hash.update(piece.plain)
            self._blob.write(piece.stored)
        self.size += size

    def conclude(self, tar: TarWriter) -> tuple[tuple[str, str], ...]:
        tar.close()
        self._pass_on()
        self._blob.write(self._compressor.flush())
        return ()

    @property
    def diff_id(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def _pass_on(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        self._hash.update(data)
        self.size += len(data)
        if compressed := self._compressor.compress(data):
            self._blob.write(compressed)
