"""Reading a wheel: a zip file whose every byte is checked on the way out, and of which nothing is held in memory.

The central directory is read by `zipfile`; the members are inflated here in pieces straight from the file, several
times as fast as through `ZipFile.open`, which works in small reads under a lock. Sources: PEP 427 and the binary
distribution format of the packaging specifications, APPNOTE.TXT for zip.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from isal import igzip_lib, isal_zlib
from packaging.utils import canonicalize_name

from lightship.errors import IntegrityError
from lightship.layers.tar import Deflated, safe_path

_PIECE = 1 << 20  # bytes read from the wheel at a time, and given out at a time
_SMALL_LIMIT = 64 << 20  # bytes; no metadata file of a real wheel comes near (torch's RECORD has 2 MB)
_UNPACKED_LIMIT = 64 << 30  # bytes of one wheel; the largest real ones have a few GiB
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_HASHES = ("sha512", "sha384", "sha256")  # what RECORD may use; weaker ones are refused by the specification
_DAMAGED = cast(type[Exception], igzip_lib.IsalError)  # its stub calls the class an instance
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
# What zipfile raises for directories that are damaged in one way or another.
_NOT_A_ZIP = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    ValueError,
    EOFError,
    struct.error,
    OverflowError,
    IndexError,
)


@dataclass(frozen=True)
class Member:
    """A file of a wheel: its path, its unpacked size in bytes, and whether it may be executed."""

    path: str
    size: int
    executable: bool
    entry: zipfile.ZipInfo

    @property
    def deflated(self) -> bool:
        """Whether the wheel holds it as a deflate stream, instead of plainly."""
        return self.entry.compress_type == zipfile.ZIP_DEFLATED


class WheelArchive:
    """A wheel, open for reading, by several threads if need be. Every error names it.

    with WheelArchive(path, "demo-1.0-py3-none-any.whl") as wheel:
        for member in wheel.members.values():
            for piece in wheel.pieces(member):
                ...
    """

    def __init__(self, path: Path, title: str) -> None:
        self.title = title
        self._file: BinaryIO = path.open("rb")
        try:
            self._zip = zipfile.ZipFile(self._file)
            self.members = {member.path: member for member in self._members()}
        except _NOT_A_ZIP as error:
            self._file.close()
            raise self.wrong(f"is not a readable zip file: {error}") from error
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> WheelArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The content of a member; its size, its CRC-32 and RECORD's hash are checked by the time it ends."""
        return (piece.plain for piece in self.deflated(member) if piece.plain)

    def deflated(self, member: Member) -> Iterator[Deflated]:
        """The same, each piece with the deflate bytes that it came from (none of a member that is stored plainly)."""
        expected = self.record.get(member.path)
        hashed = hashlib.new(expected[0]) if expected else None
        crc = size = 0
        for piece in self._inflated(member):
            size += len(piece.plain)
            if size > member.size:
                break
            crc = isal_zlib.crc32(piece.plain, crc)
            if hashed:
                hashed.update(piece.plain)
            yield piece
        if size != member.size or crc != member.entry.CRC:
            raise self.wrong(f"holds {member.path} with another size or checksum than it declares")
        if expected and hashed and hashed.digest() != expected[1]:
            raise self.wrong(f"holds {member.path} with another hash than its RECORD says")

    def unchecked(self, member: Member) -> Iterator[bytes]:
        """The content of a member as far as it is asked for, for a look at it: nothing of it is checked yet."""
        return (piece.plain for piece in self._inflated(member) if piece.plain)

    def read(self, path: str) -> bytes:
        """The content of a small file, such as metadata."""
        member = self.members.get(path)
        if member is None:
            raise self.wrong(f"has no {path}")
        if member.size > _SMALL_LIMIT:
            raise self.wrong(f"holds a {path} of {member.size} bytes")
        return b"".join(self.pieces(member))

    @cached_property
    def dist_info(self) -> str:
        """The folder of the metadata, `NAME-VERSION.dist-info`."""
        name, version = self.title.split("-")[:2]
        found = [
            folder
            for path in self.members
            if path.count("/") == 1 and path.endswith("/WHEEL") and (folder := path[: -len("/WHEEL")])
            if folder.endswith(".dist-info")
            and canonicalize_name(folder.removesuffix(".dist-info").split("-")[0]) == canonicalize_name(name)
        ]
        if len(found) != 1:
            raise self.wrong(f"has {len(found) or 'no'} metadata folders for {name} {version}")
        return found[0]

    @cached_property
    def record(self) -> dict[str, tuple[str, bytes]]:
        """RECORD's hashes: path to algorithm and digest. Files without one are left out."""
        path = f"{self.dist_info}/RECORD"
        member = self.members.get(path)
        if member is None or member.size > _SMALL_LIMIT:
            raise self.wrong("has no readable RECORD")
        # RECORD has no hash of itself; reading it through `read` would look for one.
        text = b"".join(piece.plain for piece in self._inflated(member)).decode("utf-8", "replace")
        hashes: dict[str, tuple[str, bytes]] = {}
        try:
            for row in csv.reader(text.splitlines()):
                if len(row) >= 2 and row[1] and row[0].rpartition("/")[2] not in _UNHASHED:
                    algorithm, _, digest = row[1].partition("=")
                    if algorithm not in _HASHES:
                        raise self.wrong(f"has a RECORD with the unsafe hash {algorithm!r}")
                    hashes[row[0]] = (algorithm, base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)))
        except (csv.Error, ValueError) as error:
            raise self.wrong(f"has an unreadable RECORD: {error}") from error
        if absent := hashes.keys() - self.members.keys():
            raise self.wrong(f"lacks {min(absent)}, which its RECORD lists")
        return hashes

    def check_version(self) -> None:
        """Raise for a wheel of a format that is not known. (Whether the root is purelib or platlib does not matter:
        a virtual environment has one folder for both.)"""
        fields = dict(
            line.split(": ", 1) for line in self.read(f"{self.dist_info}/WHEEL").decode().splitlines() if ": " in line
        )
        version = fields.get("Wheel-Version", "")
        if version.partition(".")[0] != "1":
            raise self.wrong(f"has the format version {version!r}; only 1.x is known")

    def wrong(self, what: str) -> IntegrityError:
        """The error for something that is wrong with this wheel."""
        return IntegrityError(
            f"The wheel {self.title} {what}.",
            hint="Fetch it again (`lightship cache prune --all`), or report it to whoever publishes it.",
        )

    def _members(self) -> Iterator[Member]:
        seen: set[str] = set()
        total = 0
        for entry in self._zip.infolist():
            path = entry.filename
            if path.endswith("/"):
                continue
            mode = entry.external_attr >> 16
            total += entry.file_size
            try:
                safe_path(path)
            except IntegrityError as error:
                raise self.wrong(f"holds the path {path!r}, which leaves its folder") from error
            if "\\" in entry.orig_filename or stat.S_ISLNK(mode):
                raise self.wrong(f"holds {path!r}, a link or a path with a backslash")
            if path in seen:
                raise self.wrong(f"holds {path} twice")
            if entry.header_offset < 0:
                raise self.wrong(f"says that {path} begins before the file does")
            if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.wrong(f"holds {path} encrypted or compressed in an unknown way")
            if total > _UNPACKED_LIMIT:
                raise self.wrong(f"would unpack to more than {_UNPACKED_LIMIT >> 30} GiB")
            seen.add(path)
            yield Member(path, entry.file_size, bool(mode & 0o111), entry)

    def _inflated(self, member: Member) -> Iterator[Deflated]:
        """The bytes of a member, at most a little more than it declares; not yet checked."""
        entry = member.entry
        start = entry.header_offset
        header = self._at(start, _LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size:
            raise self.wrong("is cut short")
        signature, _, _, method, *_, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        start += _LOCAL_HEADER.size
        name = self._at(start, name_size)
        encoding = "utf-8" if entry.flag_bits & 0x800 else "cp437"
        if signature != b"PK\3\4" or method != entry.compress_type or name != entry.orig_filename.encode(encoding):
            raise self.wrong(f"has two different headers for {member.path}")
        start += name_size + extra_size
        if method == zipfile.ZIP_STORED:
            end = start + entry.compress_size
            while start < end and (piece := self._at(start, end - start)):
                start += len(piece)
                yield Deflated(piece, b"")
        else:
            yield from self._inflate(start, member)

    def _at(self, position: int, size: int) -> bytes:
        """Some bytes of the file, at most a piece; no position is shared, so threads may read at the same time."""
        return os.pread(self._file.fileno(), min(size, _PIECE), position)

    def _inflate(self, start: int, member: Member) -> Iterator[Deflated]:
        stream = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS)
        left = member.entry.compress_size
        given = 0
        try:
            while left and not stream.eof and (piece := self._at(start, left)):
                start += len(piece)
                left -= len(piece)
                stored = piece
                while piece and given <= member.size:
                    out = stream.decompress(piece, 4 * _PIECE)
                    piece = stream.unconsumed_tail
                    given += len(out)
                    yield Deflated(out, stored)
                    stored = b""
            if given <= member.size and (tail := stream.flush()):
                given += len(tail)
                yield Deflated(tail, b"")
        except _DAMAGED as error:
            raise self.wrong(f"holds a damaged {member.path}: {error}") from error
        # The size says enough of a member that is too large. Any other stream is whole: a gzip layer keeps it.
        if given <= member.size and (not stream.eof or left or stream.unused_data):
            raise self.wrong(f"holds {member.path}, whose compressed data ends elsewhere than it says")
