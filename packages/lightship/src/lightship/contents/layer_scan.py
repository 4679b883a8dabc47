"""One layer, read once from its stored bytes: a line for each entry, and what says which package brought which file.

Content passes through a hash and is gone. What is remembered is bounded for the whole image by a `Budget`, because
an image may come from anywhere.
"""

from __future__ import annotations

import hashlib
import posixpath
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from lightship.contents.packages import Metadata, is_metadata, read_metadata
from lightship.errors import IntegrityError
from lightship.layers.compression import Compression, decompressed
from lightship.layers.tar_stream import Entry, Kind, TarStream

MOST_FILES = 1_000_000  # entries of all layers together; CUDA images with conda have some 200,000
MOST_NAME_BYTES = 256 << 20  # of their paths and links, and of the paths that packages claim
DEEPEST = 256  # directories; deeper ones serve only to break programs that walk them
LARGEST_METADATA = 16 << 20  # bytes of one package's list of files, or of dpkg's status
WHITEOUT = ".wh."  # image-spec layer.md, "Whiteouts"
OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class File:
    """An entry of a layer. `path` has no leading slash; `digest` is the sha256 of a file's content, else empty."""

    path: str
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    digest: bytes
    target: str


@dataclass
class LayerScan:
    """What a layer holds, and what it does to those below it.

    Attributes:
        digest: sha256 of the stored bytes; `size` is their number.
        unpacked_size: Bytes of the plain tar.
        files: Its entries, directories and links among them.
        removed: Paths that disappear with all they hold.
        emptied: Directories whose earlier content disappears.
        metadata: Path of a package's record to what it says.
    """

    digest: str = ""
    size: int = 0
    unpacked_size: int = 0
    files: list[File] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)


class Budget:
    """What all layers of an image together may hold; layers are read side by side."""

    def __init__(self, files: int = MOST_FILES, name_bytes: int = MOST_NAME_BYTES) -> None:
        self._lock = threading.Lock()
        self._files = files
        self._name_bytes = name_bytes

    def spend(self, files: int, name_bytes: int) -> None:
        """Raises IntegrityError where the image holds more than is reasonable."""
        with self._lock:
            self._files -= files
            self._name_bytes -= name_bytes
            if self._files < 0 or self._name_bytes < 0:
                raise IntegrityError(
                    "The image holds more files, or longer names, than is reasonable: it was not read to its end.",
                    hint="Such an image is made to exhaust what reads it.",
                )


def scan_layer(
    file: BinaryIO, name: str, budget: Budget, advance: Callable[[int], None] = lambda size: None
) -> LayerScan:
    """Read a stored layer; its compression is told from its first bytes, because archives do not tell it.

    Args:
        name: What errors call the layer, at the start of a sentence.
        advance: Is told of the stored bytes that were read.
    """
    stored = _Hashed(file, advance)
    scan = LayerScan()
    stream = TarStream(_counted(decompressed(stored.buffered(), stored.compression), scan), name)
    for entry in stream:
        _note(scan, entry, stream, budget, name)
    while stored.read(1 << 20):
        pass  # bytes behind a plain tar's end count for the digest too
    scan.digest, scan.size = stored.digest, stored.size
    return scan


def _note(scan: LayerScan, entry: Entry, stream: TarStream, budget: Budget, name: str) -> None:
    path = posixpath.normpath("/" + entry.path).lstrip("/")
    if not path:
        return  # the root itself
    if path.count("/") >= DEEPEST:
        raise IntegrityError(f"{name} holds a path of more than {DEEPEST} directories.")
    budget.spend(1, len(path) + len(entry.target))
    folder, _, base = path.rpartition("/")
    if base == OPAQUE:
        scan.emptied.append(folder)
        return
    if base.startswith(WHITEOUT):
        if gone := base.removeprefix(WHITEOUT):
            scan.removed.append(posixpath.join(folder, gone))
        return
    digest = b""
    if entry.kind is Kind.FILE:
        hashed = hashlib.sha256()
        pieces: list[bytes] | None = [] if entry.size <= LARGEST_METADATA and is_metadata(path) else None
        for piece in stream.content():
            hashed.update(piece)
            if pieces is not None:
                pieces.append(bytes(piece))
        digest = hashed.digest()
        if pieces is not None:
            found = read_metadata(path, b"".join(pieces))
            budget.spend(0, found.weight)
            scan.metadata[path] = found
    scan.files.append(File(path, entry.kind, entry.size, entry.mode, entry.uid, entry.gid, digest, entry.target))


def _counted(chunks: Iterator[bytes], scan: LayerScan) -> Iterator[bytes]:
    for chunk in chunks:
        scan.unpacked_size += len(chunk)
        yield chunk


_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # RFC 8878, 3.1.2: the last three bytes of 0x184D2A5?, little-endian


class _Hashed:
    """A stored layer on its way to the decompressor."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], None]) -> None:
        self._file = file
        self._advance = advance
        self._hash = hashlib.sha256()
        self.size = 0
        self._first = self._read(1 << 16)

    @property
    def compression(self) -> Compression:
        if self._first.startswith(_GZIP):
            return Compression.GZIP
        if self._first.startswith(_ZSTD) or (self._first[1:4] == _ZSTD_SKIPPABLE and 0x50 <= self._first[0] <= 0x5F):
            return Compression.ZSTD
        return Compression.NONE

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def buffered(self) -> BinaryIO:
        """Itself; the decompressors only read."""
        return self  # type: ignore[return-value]

    def read(self, size: int = -1) -> bytes:
        if self._first:
            taken = self._first if size < 0 else self._first[:size]
            self._first = self._first[len(taken) :]
            return taken
        return self._read(1 << 20 if size < 0 else size)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self.size += len(data)
        self._advance(len(data))
        return data
