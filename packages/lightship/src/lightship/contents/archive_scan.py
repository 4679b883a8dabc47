"""An archive of an image (OCI layout in a tar, `docker save`), read in one pass from a file or a pipe.

The documents that say which blob is what may come last, so each blob is told by its first bytes: JSON is kept, a
layer is scanned as it passes. What nobody refers to in the end is forgotten.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from lightship.contents.layer_scan import Budget, LayerScan, scan_layer
from lightship.errors import IntegrityError
from lightship.layers.tar_stream import BLOCK, Kind, TarStream
from lightship.oci.published import MAX_DOCUMENT

MOST_DOCUMENTS = 64 << 20  # bytes of all documents of an archive together
MOST_BLOBS = 10_000  # entries of an archive; each layer of `docker save` before version 25 is four
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # gzip, zstd


@dataclass
class ArchiveScan:
    """What was in an archive, by path; the `errors` of layers count only where the layer is part of the image."""

    documents: dict[str, bytes] = field(default_factory=dict)
    layers: dict[str, LayerScan] = field(default_factory=dict)
    errors: dict[str, IntegrityError] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def layer(self, path: str, name: str) -> LayerScan:
        """The layer of this path; before version 25, `docker save` writes a link where layers are equal."""
        path = self.links.get(path, path)
        if path in self.errors:
            raise self.errors[path]
        if path not in self.layers:
            raise IntegrityError(f"{name} lacks the layer {path!r}.", hint="Save the image again, whole.")
        return self.layers[path]


def scan_archive(chunks: Iterator[bytes], name: str, budget: Budget, advance: Callable[[int], None]) -> ArchiveScan:
    """Read an archive to its end. `advance` is told of the layers' stored bytes."""
    found = ArchiveScan()
    document_bytes = 0
    stream = TarStream(chunks, name, most_entries=MOST_BLOBS)
    for entry in stream:
        path = _absolute(entry.path)
        if entry.kind is Kind.SYMLINK:
            found.links[path] = _absolute(posixpath.join(posixpath.dirname(path), entry.target))
        elif entry.kind is Kind.HARDLINK:
            found.links[path] = _absolute(entry.target)
        if entry.kind is not Kind.FILE:
            continue
        content = _Content(stream.content())
        if _is_layer(content.peek(BLOCK)):
            try:
                found.layers[path] = scan_layer(_readable(content), f"The layer {path!r}", budget, advance)
            except IntegrityError as error:
                found.errors[path] = error
        elif entry.size <= MAX_DOCUMENT and content.peek(BLOCK).lstrip()[:1] in (b"{", b"["):
            document_bytes += entry.size
            if document_bytes > MOST_DOCUMENTS:
                raise IntegrityError(f"{name} holds more than {MOST_DOCUMENTS} bytes of documents.")
            found.documents[path] = content.read(entry.size)
    return found


def _is_layer(first: bytes) -> bool:
    """Whether this is compressed, or the first block of a tar: a header, or the end of an empty one."""
    return first.startswith(_COMPRESSED) or first[257:262] == b"ustar" or first == bytes(BLOCK)


def _absolute(path: str) -> str:
    return posixpath.normpath("/" + path).lstrip("/")


def _readable(content: _Content) -> BinaryIO:
    return io.BufferedReader(content)


class _Content(io.RawIOBase):
    """The pieces of an entry as a file."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._buffer = b""

    def peek(self, size: int) -> bytes:
        """The first bytes, which stay."""
        while len(self._buffer) < size and (piece := next(self._pieces, None)):
            self._buffer += bytes(piece)
        return self._buffer[:size]

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        if not self._buffer:
            self._buffer = bytes(next(self._pieces, b""))
        taken = self._buffer[: len(target)]
        target[: len(taken)] = taken
        self._buffer = self._buffer[len(taken) :]
        return len(taken)

    def read(self, size: int = -1) -> bytes:
        return io.RawIOBase.readall(self) if size < 0 else _exactly(self, size)


def _exactly(content: _Content, size: int) -> bytes:
    whole = bytearray(size)
    view, at = memoryview(whole), 0
    while at < size and (count := content.readinto(view[at:])):
        at += count
    return bytes(whole[:at])
