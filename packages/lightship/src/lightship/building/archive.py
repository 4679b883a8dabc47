"""Unpack a source archive into an empty directory: bounded, nothing outside, no links that lead out."""

from __future__ import annotations

import lzma
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import zstandard

from lightship.bases.debian.filesystem import RootFileSystem
from lightship.bases.debian.streams import decompressed
from lightship.cache import CHUNK, storing
from lightship.errors import IntegrityError
from lightship.layers.tar_stream import TarStream

_ENTRIES = 100_000
_TOTAL = 4 << 30  # bytes; the largest sdists there are unpack to about one GiB
# What the modules raise for an archive that is damaged, encrypted or packed in a way that they do not know.
_NOT_SOUND = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError),
    *(EOFError, ValueError, RuntimeError),
)
_MAGIC = ((b"\x1f\x8b", ".gz"), (b"\xfd7zXZ\0", ".xz"), (b"\x28\xb5\x2f\xfd", ".zst"))


def unpack_archive(path: Path, target: Path, title: str, *, stripped: bool = True) -> None:
    """Unpack a tar (packed by gzip, xz or zstd, or not) or a zip into `target`, which does not exist yet.

    Args:
        stripped: Whether the archive has one folder at its top that holds all else, as an sdist has; its content is
            what is unpacked. An archive without one is taken as it is.

    Raises: `IntegrityError` for an archive that is damaged, too large, or reaches outside of its folder.
    """
    with storing(target):
        target.mkdir()
    try:
        if zipfile.is_zipfile(path):
            _unpack_zip(path, target)
        else:
            _unpack_tar(path, target)
    except IntegrityError as error:
        raise IntegrityError(f"{title}: {error.message}") from error
    except _NOT_SOUND as error:
        raise IntegrityError(f"{title}: the archive cannot be unpacked: {error}.") from error
    if stripped:
        _strip(target)


def _unpack_tar(path: Path, target: Path) -> None:
    with path.open("rb") as file:
        beginning = file.read(8)
        suffix = next((name for magic, name in _MAGIC if beginning.startswith(magic)), "")
        file.seek(0)
        chunks = decompressed(_pieces(file), suffix)
        stream = TarStream(chunks, "The archive", most_entries=_ENTRIES, most_bytes=_TOTAL)
        tree = RootFileSystem(target)
        for entry in stream:
            if (name := _plain(entry.path)) != ".":
                linked = _plain(entry.target) if entry.kind.name == "HARDLINK" else entry.target
                tree.add_tar_entry(name, linked, entry, stream)


def _plain(path: str) -> str:
    """`a/b` of `./a//b/`; whatever leads out stays as it is, and is refused."""
    return path if ".." in path.split("/") or path.startswith("/") else posixpath.normpath(path)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def _unpack_zip(path: Path, target: Path) -> None:
    tree = RootFileSystem(target)
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        # A member never gives more than the size that it declares.
        if len(members) > _ENTRIES or sum(member.file_size for member in members) > _TOTAL:
            raise IntegrityError(f"The archive is larger than any source can be ({_TOTAL >> 30} GiB).")
        for member in members:
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise IntegrityError(
                    f"The archive holds the link {member.filename[:200]!r}, which no zip of sources has."
                )
            with archive.open(member) as source:
                tree.add_file(member.filename, _pieces(source), mode=0o755 if mode & 0o100 else 0o644)


def _strip(target: Path) -> None:
    """Lift the content of the only folder."""
    top = list(target.iterdir())
    if len(top) == 1 and top[0].is_dir() and not top[0].is_symlink():
        away = target.with_name(f"{target.name}-top")
        with storing(target):
            top[0].rename(away)
            target.rmdir()
            away.rename(target)
