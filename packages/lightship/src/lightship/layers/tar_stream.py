"""Reads a tar stream once, front to back, trusting nothing in it: layers, and the two tars of a Debian package.

Python's tarfile reads PAX headers and long names of whatever size they claim to have, and keeps every member.
An archive may come from anywhere, so here every header is bounded, so are the entries and the bytes, and content
passes through in pieces. Formats: ustar, GNU (long names, base-256 numbers) and PAX (POSIX.1-2001), which is all that
writers of layers and packages use.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lightship.errors import IntegrityError

BLOCK = tarfile.BLOCKSIZE
LONGEST_EXTENSION = 1 << 20  # bytes of one PAX header or long name; Go's archive/tar has the same limit
LONGEST_PATH = 4096  # bytes: PATH_MAX of Linux
MOST_ENTRIES = 2_000_000  # ten times what the largest images hold
MOST_BYTES = 1 << 40  # far above the largest weights: it only ends streams that unfold without end

_PAX_KEYS = frozenset({"path", "linkpath", "size", "uid", "gid", "mtime"})
_ZEROS = bytes(BLOCK)
_BLANK_CHECKSUM = b" " * 8


class Kind(Enum):
    """What an entry makes."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    SPECIAL = "device or pipe"


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.CHRTYPE: Kind.SPECIAL,
    tarfile.BLKTYPE: Kind.SPECIAL,
    tarfile.FIFOTYPE: Kind.SPECIAL,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as the archive gives it: `path` and `target` are not checked yet.

    `size` is in bytes (0 for all but files), `modified` in seconds since 1970.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    modified: float
    target: str


class TarStream:
    """Iterate over the entries; read a file's `content()` before going on, or leave it to be skipped.

    The end of the iteration is the end of `chunks`, where a compressed stream has its check sum.

    Args:
        name: What errors call the archive, at the start of a sentence.
        most_bytes: What the whole stream may have; a stream without end is refused there.

    Raises IntegrityError where the stream is not a whole tar archive, or more than is reasonable.
    """

    def __init__(
        self, chunks: Iterator[bytes], name: str, *, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES
    ) -> None:
        self._chunks = chunks
        self._name = name
        self._entries_left = most_entries
        self._bytes_left = self._most_bytes = most_bytes
        self._buffer = memoryview(b"")
        self._left = 0  # bytes of the current entry's content that were not read yet
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        extensions: dict[str, str] = {}
        while header := self._next_header():
            if header == _ZEROS:
                while self._refill():
                    pass  # the end; what may follow is padding
                return
            kind = header[156:157]
            size = _number(header[124:136], self._name)
            if kind in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                extensions |= self._pax_records(self._extension(size))
            elif kind == tarfile.GNUTYPE_LONGNAME:
                extensions["path"] = _text(self._extension(size).rstrip(b"\0"))
            elif kind == tarfile.GNUTYPE_LONGLINK:
                extensions["linkpath"] = _text(self._extension(size).rstrip(b"\0"))
            elif kind == tarfile.XGLTYPE:
                self._extension(size)  # comments of git archive and the like; Go's archive/tar ignores them too
            else:
                entry = self._entry(header, kind, size, extensions)
                extensions = {}
                self._entries_left -= 1
                if self._entries_left < 0:
                    raise IntegrityError(f"{self._name} holds more entries than is reasonable.")
                self._left, self._padding = entry.size, -entry.size % BLOCK
                yield entry
        if extensions:
            raise self._damaged("it ends after an extended header")

    def content(self) -> Iterator[memoryview]:
        """The current file's content, in pieces."""
        while self._left:
            piece = self._piece(self._left)
            self._left -= len(piece)
            yield piece

    def _entry(self, header: bytes, kind: bytes, size: int, extensions: dict[str, str]) -> Entry:
        known = _KINDS.get(kind)
        if known is None:
            raise IntegrityError(f"{self._name} holds an entry of the unknown or unsupported tar type {kind!r}.")
        path = extensions.get("path") or _path(header)
        if known is Kind.FILE and path.endswith("/"):
            known = Kind.DIRECTORY  # how tar wrote directories before there was a type for them
        target = extensions.get("linkpath") or _text(_up_to_nul(header[157:257]))
        if max(len(path), len(target)) > LONGEST_PATH:
            raise IntegrityError(f"{self._name} holds a path of more than {LONGEST_PATH} characters.")
        try:
            # Only files have content, whatever the size field of another entry says (archive/tar: isHeaderOnlyType).
            size = int(extensions.get("size", size)) if known is Kind.FILE else 0
            uid = int(extensions.get("uid") or _number(header[108:116], self._name))
            gid = int(extensions.get("gid") or _number(header[116:124], self._name))
            modified = float(extensions.get("mtime") or _number(header[136:148], self._name))
        except (ValueError, OverflowError) as error:
            raise self._damaged(f"a PAX header holds a bad number ({error})") from None
        if size < 0 or not 0 <= uid < 1 << 32 or not 0 <= gid < 1 << 32 or not abs(modified) < 1 << 40:
            raise self._damaged(f"a size, owner or time of {path!r} is out of range")
        if size > self._most_bytes:
            raise self._too_large()
        mode = _number(header[100:108], self._name) & 0o7777
        return Entry(path, known, mode, uid, gid, size, modified, target)

    def _next_header(self) -> bytes:
        """The next header block, or nothing at the end of the stream."""
        for _ in self.content():
            pass
        self._take(self._padding)
        self._padding = 0
        header = self._take(BLOCK, end_is_fine=True)
        if header and header != _ZEROS:
            checksum = sum(header) - sum(header[148:156]) + sum(_BLANK_CHECKSUM)
            if checksum != _number(header[148:156], self._name):
                raise self._damaged("the checksum of a header is wrong")
        return header

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST_EXTENSION:
            raise self._damaged(f"an extended header claims {size} bytes")
        content = self._take(size)
        self._take(-size % BLOCK)
        return content

    def _pax_records(self, content: bytes) -> dict[str, str]:
        """The records `<length> <key>=<value>\\n` of a PAX header."""
        records = {}
        at = 0
        while at < len(content):
            length, space, _ = content[at : at + 10].partition(b" ")
            if not space or not length.isdigit() or not len(length) < int(length) <= len(content) - at:
                raise self._damaged("a PAX header is malformed")
            record = content[at + len(length) + 1 : at + int(length)]
            key, equals, value = record.partition(b"=")
            if not equals or not value.endswith(b"\n"):
                raise self._damaged("a PAX header is malformed")
            if key.startswith(b"GNU.sparse"):
                raise IntegrityError(f"{self._name} holds a sparse file, which no layer may.")
            if (name := key.decode("ascii", "replace")) in _PAX_KEYS:
                records[name] = _text(value[:-1])
            at += int(length)
        return records

    def _take(self, size: int, *, end_is_fine: bool = False) -> bytes:
        """Exactly `size` bytes, or none where the stream has ended and may."""
        if len(self._buffer) >= size:
            taken = bytes(self._buffer[:size])
            self._buffer = self._buffer[size:]
            return taken
        pieces: list[memoryview] = []
        while size:
            if not self._buffer and not self._refill():
                if end_is_fine and not pieces:
                    return b""
                raise self._damaged("it is cut short")
            piece = self._buffer[:size]
            self._buffer = self._buffer[size:]
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _piece(self, most: int) -> memoryview:
        if not self._buffer and not self._refill():
            raise self._damaged("it is cut short")
        piece = self._buffer[:most]
        self._buffer = self._buffer[most:]
        return piece

    def _refill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._bytes_left -= len(chunk)
                if self._bytes_left < 0:
                    raise self._too_large()
                self._buffer = memoryview(chunk)
                return True
        return False

    def _too_large(self) -> IntegrityError:
        return IntegrityError(f"{self._name} unpacks to more than {self._most_bytes} bytes.")

    def _damaged(self, why: str) -> IntegrityError:
        return IntegrityError(f"{self._name} is not a sound tar archive: {why}.")


def _path(header: bytes) -> str:
    name = _up_to_nul(header[:100])
    # The prefix exists in POSIX archives only ("ustar\0"); old GNU ones ("ustar  ") keep times in its place.
    if header[257:263] == b"ustar\0" and (prefix := _up_to_nul(header[345:500])):
        name = prefix + b"/" + name
    return _text(name)


def _number(field: bytes, name: str) -> int:
    """A number of a header: octal digits, or base 256 where the first bit is set."""
    if field[0] == 0xFF:
        return int.from_bytes(field, "big", signed=True)
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    digits = field.strip(b" \0")
    try:
        return int(_up_to_nul(digits).strip(b" ") or b"0", 8)
    except ValueError:
        raise IntegrityError(f"{name} is not a sound tar archive: a header holds the number {field!r}.") from None


def _up_to_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
