"""Zip files that models come in, opened with bounds: nothing is extracted, names are only compared."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightship.models.damage import damaged
from lightship.models.stream import Readable

MAGIC = b"PK\x03\x04"
MAX_DIRECTORY = 8 << 20  # bytes of the table of contents; 100,000 tensors need less

_REFUSALS = (
    zipfile.BadZipFile,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    ValueError,  # UnicodeDecodeError among them
    NotImplementedError,
    OverflowError,
    EOFError,
    RuntimeError,  # encrypted members
    OSError,
)


class Archive:
    """An open zip file. `names` are those of its members, in order."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive = archive
        self._path = path
        self.names = archive.namelist()
        if len(set(self.names)) != len(self.names):
            raise damaged(path, "two of its members have one name, so that readers may disagree about them")

    def size_of(self, name: str) -> int:
        """Bytes of a member, unpacked."""
        return self._archive.getinfo(name).file_size

    def read(self, name: str, limit: int) -> bytes:
        """The whole of a small member.

        Raises:
            ProjectError: It has more than `limit` bytes, or is damaged.
        """
        if self.size_of(name) > limit:
            raise damaged(
                self._path, f"its member {name!r} has {self.size_of(name):,} bytes, where {limit:,} are many"
            )
        with self.opened(name) as member:
            return member.read(limit)

    @contextmanager
    def opened(self, name: str) -> Iterator[Readable]:
        """A member as a stream; damage found while reading becomes a ProjectError."""
        with refusals(self._path), self._archive.open(name) as member:
            yield member


@contextmanager
def open_zip(path: Path) -> Iterator[Archive]:
    """Open a zip file.

    Raises:
        ProjectError: It is no zip file or a damaged one.
    """
    with refusals(path), _Guarded(path) as file, zipfile.ZipFile(file) as archive:
        yield Archive(archive, path)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn what zipfile raises for damaged archives into an error for people."""
    try:
        yield
    except _REFUSALS as error:
        raise damaged(path, f"it is not a whole zip archive ({error})") from None


class _Guarded(io.FileIO):
    """A file that refuses one huge read: zipfile reads the table of contents at once, whatever size it claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its table of contents claims {size:,} bytes")
        return super().read(size)
