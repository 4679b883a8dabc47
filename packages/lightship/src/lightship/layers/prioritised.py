"""An eStargz layer anew, with what start-up reads at its beginning: a node fetches that in one request.

What start-up reads is known only after an image has run, so the layer is there already. Nothing is compressed again,
because every content is a gzip member by itself.
"""

from __future__ import annotations

import hashlib
import posixpath
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO

from lightship.cache import Cache
from lightship.errors import IntegrityError
from lightship.layers.compression import Compression
from lightship.layers.estargz import LANDMARK_CONTENT, LANDMARKS, PREFETCH_LANDMARK, TOC_DIGEST, TocEntry, read_toc
from lightship.layers.layer import Layer, materialise, missing_layer, recipe_key
from lightship.layers.tar import Deflated, TarWriter

VERSION = 1
_PIECE = 1 << 20  # bytes
_TYPES = ("reg", "dir", "symlink", "hardlink")


def prioritised(layer: Layer, paths: Sequence[str], cache: Cache) -> Layer:
    """The same files, those of `paths` first, in this order, and the landmark behind them.

    Args:
        paths: As a container sees them, `/opt/...`, in the order in which start-up reads them. Those that the layer
            does not hold count for nothing. What a link of the layer leads to within it comes with the link.

    A layer that is not eStargz is returned as it is. Raises `IntegrityError` for one that is damaged.
    """
    if layer.compression is not Compression.ESTARGZ:
        return layer
    first = tuple(dict.fromkeys(path.strip("/") for path in paths))
    return materialise(PrioritisedRecipe(layer, first, cache), cache, Compression.ESTARGZ)


@dataclass(frozen=True)
class PrioritisedRecipe:
    """An eStargz layer that `materialise` made, in another order."""

    layer: Layer
    first: tuple[str, ...]
    cache: Cache = field(compare=False)

    @property
    def key(self) -> str:
        return recipe_key("prioritised", VERSION, self.layer.digest, *self.first)

    @property
    def kind(self) -> str:
        return self.layer.kind

    @property
    def title(self) -> str:
        return self.layer.title

    def write(self, tar: TarWriter) -> None:
        with _Stored(self.layer, self.cache) as stored:
            early = dict.fromkeys(name for path in self.first for name in _needed(path, stored.files))
            for name in early:
                stored.copy(name, tar)
            if early:
                tar.content(PREFETCH_LANDMARK, LANDMARK_CONTENT)
            for name in stored.files:
                if name not in early:
                    stored.copy(name, tar)


def _needed(path: str, files: Mapping[str, _File]) -> Iterator[str]:
    """What must stand in the tar for this path, in order: the directories above it, what it links to, itself."""
    pending, seen = [path], set[str]()
    found: list[list[str]] = []
    while pending:
        name = pending.pop()
        if name in seen or name not in files:
            continue
        seen.add(name)
        above = [parent for parent in _parents(name) if parent in files]
        found.append([*above, name])
        entry = files[name].entry
        if entry.type == "hardlink":
            pending.append(entry.link_name)
        elif entry.type == "symlink":
            pending.append(posixpath.normpath(posixpath.join("/", posixpath.dirname(name), entry.link_name))[1:])
    for names in reversed(found):  # a hard link stands behind what it links to
        yield from names


def _parents(name: str) -> Iterator[str]:
    """The directories above a path, the outermost first."""
    parts = name.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))


@dataclass
class _File:
    """An entry of the layer, and those of its further chunks."""

    entry: TocEntry
    chunks: list[TocEntry]


class _Stored:
    """A stored layer, open for reading by its table of contents."""

    def __init__(self, layer: Layer, cache: Cache) -> None:
        self._layer = layer
        try:
            self._file: BinaryIO = cache.open_blob(layer.digest)
        except FileNotFoundError as error:
            raise missing_layer(layer, error) from error
        try:
            self._read_toc()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> _Stored:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def copy(self, name: str, tar: TarWriter) -> None:
        """Write an entry into another tar, its content as it is compressed here."""
        entry, chunks = self.files[name].entry, self.files[name].chunks
        if entry.type == "dir":
            tar.directory(name, mode=entry.mode, uid=entry.uid, gid=entry.gid)
        elif entry.type == "symlink":
            tar.symlink(name, entry.link_name)
        elif entry.type == "hardlink":
            tar.hardlink(name, entry.link_name)
        elif not entry.size:
            tar.file(name, 0, (), mode=entry.mode, uid=entry.uid, gid=entry.gid)
        elif chunks:
            content = (piece.plain for chunk in (entry, *chunks) for piece in self._content(entry, chunk))
            tar.file(name, entry.size, content, mode=entry.mode, uid=entry.uid, gid=entry.gid)
        else:
            pieces, size = self._content(entry, entry), entry.size
            tar.deflated(name, size, pieces, stored_size=size, mode=entry.mode, uid=entry.uid, gid=entry.gid)

    def _content(self, file: TocEntry, chunk: TocEntry) -> Iterator[Deflated]:
        """A chunk's gzip member, inflated and as it is stored; checked by the time it ends."""
        size = chunk.chunk_size or file.size - chunk.chunk_offset
        hashed, seen = hashlib.sha256(), 0
        stream = zlib.decompressobj(31)
        left = max(0, self._ends.get(chunk.offset, 0) - chunk.offset)
        self._file.seek(chunk.offset)
        try:
            while not stream.eof and seen <= size and (piece := self._file.read(min(left, _PIECE))):
                left -= len(piece)
                rest = piece
                while rest and not stream.eof and seen <= size:
                    plain = stream.decompress(rest, 4 * _PIECE)
                    rest = stream.unconsumed_tail
                    seen += len(plain)
                    hashed.update(plain)
                    yield Deflated(plain, b"")
                yield Deflated(b"", piece[: len(piece) - len(stream.unused_data)])
        except zlib.error as error:
            raise self._wrong(f"holds a damaged /{file.name}: {error}") from error
        if not stream.eof or seen != size or "sha256:" + hashed.hexdigest() != chunk.chunk_digest:
            raise self._wrong(f"holds another /{file.name} than its table of contents says")

    def _read_toc(self) -> None:
        toc, stored, end = read_toc(self._file, self._layer.size, f"The layer {self._layer.title!r}")
        if "sha256:" + hashlib.sha256(stored).hexdigest() != dict(self._layer.annotations)[TOC_DIGEST]:
            raise self._wrong("has another table of contents than its annotation says")
        offsets = sorted({entry.offset for entry in toc.entries if entry.offset} | {end})
        self._ends = dict(pairwise(offsets))
        self.files: dict[str, _File] = {}
        for entry in toc.entries:
            name = entry.name.rstrip("/")
            if name in LANDMARKS:
                continue
            if entry.type == "chunk" and name in self.files:
                self.files[name].chunks.append(entry)
            elif entry.type in _TYPES:
                self.files[name] = _File(entry, [])
            else:
                raise self._wrong(f"holds /{name} as a {entry.type}, which Lightship does not write")

    def _wrong(self, what: str) -> IntegrityError:
        return IntegrityError(f"The layer {self._layer.title!r} ({self._layer.digest}) {what}.", hint="Build again.")
