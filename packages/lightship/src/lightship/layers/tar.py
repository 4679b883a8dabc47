"""Deterministic tar streams: the same entries give the same bytes, whoever writes them, wherever.

GNU format, because PAX sizes of files over 8 GiB are ignored by some scanners and BSD tools differ
(docs/decisions.md). Fixed times and owners, no user names, no duplicate paths, parents before children: the rules of
the OCI layer specification (image-spec layer.md) made into an interface that cannot break them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from lightship.errors import IntegrityError

EPOCH = 315532800  # 1980-01-01T00:00:00Z: the earliest time that zip, and so every tool of Python's, can express
DIRECTORY_MODE = 0o755
FILE_MODE = 0o644
BLOCK = tarfile.BLOCKSIZE
_RECORD = tarfile.RECORDSIZE


class Sink(Protocol):
    """Where the bytes of a tar stream go."""

    def write(self, data: bytes, /) -> object: ...


class Deflated(NamedTuple):
    """A piece of a file's content, and the raw deflate bytes read for it. Either may be empty."""

    plain: bytes
    stored: bytes


@runtime_checkable
class Splicer(Protocol):
    """A sink that may take content in its compressed form (layers/gzip_members.py says when that is of use)."""

    splice_from: int  # bytes compressed; smaller content is written plainly

    def splice(self, pieces: Iterable[Deflated], size: int, /) -> None:
        """Write content of `size` bytes; what `pieces` have stored is a whole gzip member."""
        ...


@runtime_checkable
class Indexer(Protocol):
    """A sink that keeps a table of the entries (layers/estargz_stream.py)."""

    def entry(self, header: tarfile.TarInfo, /) -> None:
        """The header of an entry follows."""
        ...

    def begin_content(self) -> None:
        """What is written from here on is the content of the last entry, one byte of it at least."""
        ...

    def end_content(self) -> None: ...


class TarWriter:
    """Writes one layer. Entries must come in the order that the producer fixes (sorted, as a rule).

    Paths are relative, with `/`, and free of `..`; a parent that was not announced is added with mode 0755 and
    owner 0:0, so that a layer alone never makes a directory with an odd mode. A second entry for one path is an
    error, but a directory may be announced again with the same attributes.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._splicer = sink if isinstance(sink, Splicer) else None
        self._indexer = sink if isinstance(sink, Indexer) else None
        self._written = 0
        self._directories: dict[str, tuple[int, int, int]] = {}
        self._paths: set[str] = set()

    def directory(self, path: str, *, mode: int = DIRECTORY_MODE, uid: int = 0, gid: int = 0) -> None:
        """Add a directory, or do nothing where the same directory is there already."""
        path = self._checked(path)
        attributes = (mode, uid, gid)
        if path in self._directories:
            if self._directories[path] != attributes:
                raise IntegrityError(f"The directory /{path} was written twice with different modes or owners.")
            return
        self._announce(path)
        self._directories[path] = attributes
        self._header(path + "/", tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid)

    def file(
        self,
        path: str,
        size: int,
        chunks: Iterable[bytes | memoryview],
        *,
        mode: int = FILE_MODE,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        """Add a regular file of exactly `size` bytes, streamed from `chunks`."""
        path = self._checked(path)
        self._announce(path)
        self._header(path, tarfile.REGTYPE, mode=mode, uid=uid, gid=gid, size=size)
        if size and self._indexer:
            self._indexer.begin_content()
        seen = 0
        for chunk in chunks:
            seen += len(chunk)
            if seen > size:
                break
            self._emit(bytes(chunk) if isinstance(chunk, memoryview) else chunk)
        if seen != size:
            more = "more than " if seen > size else f"{seen} of "
            raise IntegrityError(f"The content of /{path} has {more}{size} bytes.")
        if size and self._indexer:
            self._indexer.end_content()
        self._pad(size)

    def deflated(
        self,
        path: str,
        size: int,
        pieces: Iterable[Deflated],
        *,
        stored_size: int,
        mode: int = FILE_MODE,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        """Add a regular file that is at hand compressed: what `pieces` have stored is a whole gzip member.

        `pieces` must raise before they end where the content has not this size in bytes, or another CRC-32 than the
        member says: the compressed bytes, `stored_size` of them, may go into the layer as they are.
        """
        if self._splicer is None or not self.splices(size, stored_size):
            self.file(path, size, (piece.plain for piece in pieces), mode=mode, uid=uid, gid=gid)
            return
        path = self._checked(path)
        self._announce(path)
        self._header(path, tarfile.REGTYPE, mode=mode, uid=uid, gid=gid, size=size)
        self._splicer.splice(pieces, size)
        self._written += size
        self._pad(size)

    def splices(self, size: int, stored_size: int) -> bool:
        """Whether a compressed file, of these sizes in bytes, goes into the layer as it is compressed."""
        return bool(size and self._splicer and stored_size >= self._splicer.splice_from)

    def content(self, path: str, content: bytes, *, mode: int = FILE_MODE, uid: int = 0, gid: int = 0) -> None:
        """Add a regular file whose content is at hand."""
        self.file(path, len(content), (content,), mode=mode, uid=uid, gid=gid)

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link; `target` is kept as given."""
        path = self._checked(path)
        self._announce(path)
        self._header(path, tarfile.SYMTYPE, mode=0o777, target=target)

    def hardlink(self, path: str, target: str) -> None:
        """Add a hard link to a file that this layer already holds."""
        path, target = self._checked(path), self._checked(target)
        if target not in self._paths:
            raise IntegrityError(f"The hard link /{path} points to /{target}, which is not earlier in the layer.")
        self._announce(path)
        self._header(path, tarfile.LNKTYPE, mode=FILE_MODE, target=target)

    def close(self) -> None:
        """Write the end of the archive, padded to a full record as GNU tar does."""
        self._emit(bytes(2 * BLOCK))
        if padding := -self._written % _RECORD:
            self._emit(bytes(padding))

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def _announce(self, path: str) -> None:
        if path in self._paths:
            raise IntegrityError(f"The layer would hold /{path} twice.", hint="Two sources bring the same file.")
        parent, _, _ = path.rpartition("/")
        if parent and parent not in self._directories:
            if parent in self._paths:
                raise IntegrityError(f"The layer holds /{parent} as a file and as a directory.")
            self.directory(parent)
        self._paths.add(path)

    def _header(
        self,
        name: str,
        kind: bytes,
        *,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        target: str = "",
    ) -> None:
        entry = tarfile.TarInfo(name)
        entry.type = kind
        entry.mode, entry.uid, entry.gid = mode, uid, gid
        entry.size, entry.mtime, entry.linkname = size, EPOCH, target
        if self._indexer:
            self._indexer.entry(entry)
        self._emit(entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))

    def _pad(self, size: int) -> None:
        if padding := -size % BLOCK:
            self._emit(bytes(padding))

    def _emit(self, data: bytes) -> None:
        self._sink.write(data)
        self._written += len(data)

    @staticmethod
    def _checked(path: str) -> str:
        return safe_path(path)


def safe_path(path: str) -> str:
    """The path as it may stand in a layer; anything that could escape from the root is refused.

    >>> safe_path("usr/bin/env")
    'usr/bin/env'
    """
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise IntegrityError(f"Refused the path {path!r}: it is absolute, empty or climbs out of its directory.")
    return path
