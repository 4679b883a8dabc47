"""Bring a source here: what it is exactly, and its files in a folder when they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lightship.building.archive import unpack_archive
from lightship.building.git import fetch_commit, find_commit
from lightship.building.snapshot import copy_folder, folder_digest
from lightship.cache import file_digest, storing
from lightship.download import Download, download_all
from lightship.errors import IntegrityError, NetworkError
from lightship.lock.file import LockedSource
from lightship.lock.sources import Source, place_in_lock
from lightship.session import Session
from lightship.transfer import Reader, local_path
from lightship.transport import Credentials, TransferError, masked

LARGEST = 2 << 30  # bytes of an archive whose size nobody told


@dataclass(frozen=True)
class Obtained:
    """A source, pinned; `unpack` writes its files into a folder that does not exist yet."""

    pinned: LockedSource
    unpack: Callable[[Path], None]

    @property
    def digest(self) -> str:
        """What the source is, whatever it is called and wherever it lies."""
        return self.pinned.commit or self.pinned.sha256


def obtain(
    source: Source,
    before: LockedSource | None,
    directory: Path,
    session: Session,
    credentials: Credentials | None = None,
) -> Obtained:
    """Pin a source.

    Args:
        before: What it was pinned to so far: a branch or an address that may mean something else by now stays what
            it was. Whatever says its hash itself needs no such help.
        directory: The project's folder, which paths in the lock are relative to.
        credentials: By origin, for archives.

    Raises: `NetworkError`, `IntegrityError`, `LockError`, `ProjectError`.
    """
    place = place_in_lock(source, directory)
    if source.kind == "directory":
        folder = Path(source.place)
        pinned = LockedSource("directory", folder_digest(folder), place, subdirectory=source.subdirectory)
        return Obtained(pinned, lambda target: copy_folder(folder, target))
    if source.kind == "git":
        commit = before.commit if before else find_commit(source.place, source.revision, session)
        pinned = LockedSource("git", place=place, commit=commit, subdirectory=source.subdirectory)
        return Obtained(pinned, lambda target: _unpack_commit(source, commit, target, session))
    sha256 = source.sha256 or (before.sha256 if before else "")
    path = local_path(source.place)
    if not sha256 and path is not None:
        sha256 = file_digest(path).removeprefix("sha256:")
    if not sha256:
        sha256 = _fetch_unknown(source, session, credentials)
    kind = source.kind
    pinned = LockedSource(kind, sha256, place, subdirectory=source.subdirectory)

    def unpack(target: Path) -> None:
        download = Download((source.place,), sha256, None, source.title)
        files = download_all([download], session, credentials=credentials)
        unpack_archive(files[sha256], target, source.title)

    return Obtained(pinned, unpack)


def _unpack_commit(source: Source, commit: str, target: Path, session: Session) -> None:
    with session.cache.temporary_file() as path:
        fetch_commit(source.place, commit, source.revision, path, session)
        unpack_archive(path, target, source.title, stripped=False)


def _fetch_unknown(source: Source, session: Session, credentials: Credentials | None) -> str:
    """Fetch an archive whose hash nobody told; its sha256, by which it is in the cache then."""
    with session.cache.temporary_file() as path:
        size = 0

        def receive(start: int, pieces: Iterator[bytes]) -> None:
            nonlocal size
            with storing(path), path.open("r+b" if start else "wb") as file:
                file.truncate(start)
                file.seek(start)
                size = start
                for piece in pieces:
                    size += file.write(piece)
                    if size > LARGEST:
                        raise IntegrityError(f"{source.title} is larger than {LARGEST >> 30} GiB.")

        with session.progress.task(f"Fetching {source.title}"), closing(Reader(session, credentials)) as reader:
            try:
                reader.read(source.place, receive, lambda: size)
            except TransferError as error:
                raise NetworkError(f"Could not fetch {masked(source.place)}: {error}.") from error
        digest = file_digest(path)
        session.cache.keep_file(path, digest)
    return digest.removeprefix("sha256:")
