"""Reading tar streams in one pass and within bounds (tar(5)): ustar, GNU long names, PAX paths.

A small reader of its own rather than the standard library's: `tarfile` gathers extended headers of any size in
memory and knows no limit on what a stream unfolds to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lightship.bases.debian.streams import MOST_UNPACKED, ByteStream
from lightship.errors import IntegrityError

_MOST_ENTRIES = 1_000_000
_LONGEST_NAME = 1 << 16  # bytes of an extended header
_BLOCK = 512

Kind = Literal["file", "directory", "symlink", "hardlink"]
_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"5": "directory",
    b"2": "symlink",
    b"1": "hardlink",
}


@dataclass(frozen=True)
class Member:
    """One entry of a tar; `path` and a hard link's `target` as they stand there, `size` in bytes."""

    kind: Kind
    path: str
    mode: int
    size: int
    target: str


class TarReader:
    """The members of a tar stream: `for member in reader`, and `reader.content()` while it is the current one."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._unread = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        name = target = ""
        for _ in range(_MOST_ENTRIES):
            self._finish()
            header = self._stream.exactly(_BLOCK)  # an archive without its end marker was cut
            if not header.strip(b"\0"):
                self._stream.drain()  # to the end, where a compressed stream has its check sum
                return
            _check_sum(header)
            size = _number(header[124:136])
            self._unread, self._padding = size, -size % _BLOCK
            kind = header[156:157]
            if kind == b"L":
                name = self._long_name()
            elif kind == b"K":
                target = self._long_name()
            elif kind in b"xg":
                path, link = self._extended()
                if kind == b"x":
                    name, target = path or name, link or target
            elif kind in _KINDS:
                yield self._member(header, _KINDS[kind], name, target)
                name = target = ""
            else:
                raise IntegrityError(f"it holds a device, a pipe or something unknown (tar type {kind!r})")
        raise IntegrityError("it has more entries than is reasonable")

    def content(self) -> Iterator[bytes]:
        """The bytes of the current file, in pieces."""
        size, self._unread = self._unread, 0
        return self._stream.pieces(size)

    def _member(self, header: bytes, kind: Kind, name: str, target: str) -> Member:
        if not name:
            name = _text(header[:100])
            if header[257:263] == b"ustar\0" and header[345] != 0:
                name = f"{_text(header[345:500])}/{name}"
        if kind != "file" and self._unread:
            raise IntegrityError(f"{name!r} is no file but has content")
        mode = _number(header[100:108])
        return Member(kind, name, mode, self._unread, target or _text(header[157:257]))

    def _long_name(self) -> str:
        return _text(self._small())

    def _extended(self) -> tuple[str, str]:
        """Path and link target of a PAX header. Others of its records do not matter for what we make of a package."""
        records, found = self._small(), {b"path": b"", b"linkpath": b""}
        while records:
            length, space, rest = records.partition(b" ")
            size = int(length) if length.isdigit() and len(length) < 7 else 0
            if not space or not len(length) + 1 < size <= len(records):
                raise IntegrityError("it has a damaged extended header")
            key, _, value = rest[: size - len(length) - 2].partition(b"=")
            if key in (b"size", b"GNU.sparse.major", b"GNU.sparse.map"):
                raise IntegrityError("it has a sparse or oversized file")
            if key in found:
                found[key] = value
            records = records[size:]
        return _text(found[b"path"]), _text(found[b"linkpath"])

    def _small(self) -> bytes:
        size, self._unread = self._unread, 0
        if size > _LONGEST_NAME:
            raise IntegrityError("it has a path that is longer than is reasonable")
        return self._stream.exactly(size)

    def _finish(self) -> None:
        """Skip what the caller did not read of the current member."""
        self._stream.skip(self._unread + self._padding)
        self._unread = self._padding = 0


def _check_sum(header: bytes) -> None:
    """The header's own check sum: the sum of its bytes, with spaces in place of the sum."""
    if _number(header[148:156]) != sum(header[:148]) + 8 * 0x20 + sum(header[156:]):
        raise IntegrityError("it is damaged (a tar header has a wrong check sum)")


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256 where the first bit is set."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        digits = field.strip(b" \0")
        if not all(0x30 <= digit < 0x38 for digit in digits):
            raise IntegrityError("it is damaged (a tar header holds no number where one must be)")
        number = int(digits or b"0", 8)
    if number > MOST_UNPACKED:
        raise IntegrityError("it holds a file that is larger than is reasonable")
    return number


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")
