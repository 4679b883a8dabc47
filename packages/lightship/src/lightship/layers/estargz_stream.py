"""Writing eStargz layers (`estargz` has the format): every file's content is one gzip member, or one for each chunk.

What a wheel has compressed becomes a member as it is, however small, so nothing is compressed twice. Such a file is
one chunk, however large: a deflate stream cannot be entered in its middle.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from lightship.cache import BlobWriter
from lightship.layers.estargz import (
    CHUNK_SIZE,
    LANDMARK_CONTENT,
    NO_PREFETCH_LANDMARK,
    PREFETCH_LANDMARK,
    TOC_DIGEST,
    TOC_NAME,
    UNCOMPRESSED_SIZE,
    Toc,
    TocEntry,
    footer,
    toc_entry,
)
from lightship.layers.gzip_members import GzipMembers
from lightship.layers.tar import Deflated, TarWriter


class EstargzStream:
    """Between the tar writer and the blob: hashes the plain bytes, compresses them, and keeps the table of contents.

    Headers and padding between two contents are a member of their own, so that a content's member holds nothing else.
    """

    splice_from = 1  # bytes compressed: each content is a member by itself anyway

    def __init__(self, blob: BlobWriter) -> None:
        self._blob = blob
        self._hash = hashlib.sha256()
        self._members = GzipMembers(CHUNK_SIZE)  # so that each chunk is one member
        self._entries: list[TocEntry] = []
        self._content: _Content | None = None
        self._indexing = True
        self.size = 0

    def entry(self, header: tarfile.TarInfo, /) -> None:
        if self._indexing:
            self._entries.append(toc_entry(header))

    def begin_content(self) -> None:
        if self._indexing:
            self._blob.write(self._members.end_member())
            self._content = _Content(self._blob.size, self._entries[-1].size)

    def write(self, data: bytes, /) -> None:
        self._hash.update(data)
        self.size += len(data)
        if self._content is None:
            self._compress(data)
            return
        while data:
            piece, data = data[: self._content.room], data[self._content.room :]
            self._content.add(piece)
            self._compress(piece)
            if not self._content.room:
                self._blob.write(self._members.end_member())
                self._content.next_chunk(self._blob.size)

    def end_content(self) -> None:
        if self._content:
            self._blob.write(self._members.end_member())
            self._entries[-1:] = self._content.entries(self._entries[-1])
            self._content = None

    def splice(self, pieces: Iterable[Deflated], size: int, /) -> None:
        self._blob.write(self._members.end_member())
        content = _Content(self._blob.size, size, chunk_size=size)
        for piece in pieces:
            self._hash.update(piece.plain)
            content.add(piece.plain)
            self._blob.write(piece.stored)
        self.size += size
        self._entries[-1:] = content.entries(self._entries[-1])

    def conclude(self, tar: TarWriter) -> tuple[tuple[str, str], ...]:
        """Add the landmark (where no recipe has), the table and the footer; returns the descriptor's annotations."""
        if PREFETCH_LANDMARK not in tar:
            tar.content(NO_PREFETCH_LANDMARK, LANDMARK_CONTENT)
        table = msgspec.json.encode(Toc(1, self._entries))
        self._blob.write(self._members.end_member())
        offset = self._blob.size
        self._indexing = False
        tar.content(TOC_NAME, table)
        tar.close()
        self._blob.write(self._members.end_member() + footer(offset))
        digest = "sha256:" + hashlib.sha256(table).hexdigest()
        return ((TOC_DIGEST, digest), (UNCOMPRESSED_SIZE, str(self.size)))

    @property
    def diff_id(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def _compress(self, data: bytes) -> None:
        if compressed := self._members.compress(data):
            self._blob.write(compressed)


class _Content:
    """The chunks of one file while it is written. `size` and `chunk_size` are in bytes of the plain content."""

    def __init__(self, offset: int, size: int, chunk_size: int = CHUNK_SIZE) -> None:
        self._size = size
        self._chunk_size = chunk_size
        self._whole = hashlib.sha256()
        self._chunks: list[tuple[int, str]] = []  # of those that are finished: offset in the layer, digest
        self._offset = offset
        self._hash = hashlib.sha256()
        self.room = min(chunk_size, size)  # bytes until the chunk is full; 0 at the end of the content

    def add(self, piece: bytes) -> None:
        self.room -= len(piece)
        self._hash.update(piece)
        if self._size > self._chunk_size:
            self._whole.update(piece)

    def next_chunk(self, offset: int) -> None:
        self._finish()
        self._offset, self._hash = offset, hashlib.sha256()
        self.room = max(0, min(self._chunk_size, self._size - len(self._chunks) * self._chunk_size))

    def entries(self, entry: TocEntry) -> list[TocEntry]:
        """The entry of the file with its first chunk, and those of the others."""
        if not self._chunks:
            self._finish()
        (offset, digest), *others = self._chunks
        whole = "sha256:" + self._whole.hexdigest() if others else digest
        chunk_size = self._chunk_size if others else 0
        found = [replace(entry, offset=offset, chunk_size=chunk_size, digest=whole, chunk_digest=digest)]
        for number, (offset, digest) in enumerate(others, 1):
            chunk = TocEntry(entry.name, "chunk", entry.mode, entry.uid, entry.gid)
            last = number == len(others)
            found.append(
                replace(
                    chunk,
                    offset=offset,
                    chunk_offset=number * self._chunk_size,
                    chunk_size=0 if last else self._chunk_size,
                    chunk_digest=digest,
                )
            )
        return found

    def _finish(self) -> None:
        self._chunks.append((self._offset, "sha256:" + self._hash.hexdigest()))
