"""Room on the disk for what comes: looked at before, and told of when it ends while files are written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightship.errors import ProjectError, StorageError
from lightship.hub.file import HubFile
from lightship.quantities import human_size

_SPARE = 64 << 20  # bytes that stay free on the disk
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
# What libraries in other languages make of the same errors, in words alone.
_FULL_IN_WORDS = ("No space left on device", "Disk quota exceeded", "StorageFull", "os error 28", "os error 122")
_TOO_LARGE_IN_WORDS = ("File too large", "os error 27")
_DEPTH = 20  # of errors that led to an error


def check_room(folder: Path, size: int, partial: Path) -> None:
    """Raise `ProjectError` where a disk has no room for so many bytes, less those that are in `partial` already."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    missing = size - present(partial)
    if missing + _SPARE > free:
        raise ProjectError(
            f"The model has {human_size(size)}, of which {human_size(max(0, missing))} are to come, and {folder} has "
            f"room for {human_size(max(0, free - _SPARE))}.",
            hint="Make room, or name a folder on another disk.",
        )


def full_disk(error: BaseException, file: HubFile, files: Sequence[HubFile], partial: Path) -> StorageError | None:
    """What to say where an error means that the disk is full, or that it takes no file as large; else None.

    Args:
        file: That was being written.
        files: All that are wanted, in `partial` in the end.
    """
    causes = list(_causes(error))
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError)}
    texts = " ".join(str(cause) for cause in causes)
    if errno.EFBIG in numbers or any(words in texts for words in _TOO_LARGE_IN_WORDS):
        return StorageError(
            f"{partial.parent} takes no file as large as {file.path}, which has {human_size(file.size)} "
            f"({file.size:,} bytes).",
            hint="Name a folder on another disk, as file systems differ (FAT ends at 4 GiB); or raise `ulimit -f`.",
        )
    if not numbers & _FULL and not any(words in texts for words in _FULL_IN_WORDS):
        return None
    here = present(partial)
    missing = max(0, sum(each.size for each in files) - here)
    free = shutil.disk_usage(partial.parent).free
    return StorageError(
        f"The disk is full: {file.path} could not be written to {partial.parent}. {human_size(missing)} ({missing:,} "
        f"bytes) are still to come, {human_size(here)} are here, and {human_size(free)} are free.",
        hint="Make room and run the same command again: it goes on where it ended. Or name a folder on another disk; "
        f"what is here lies in {partial}.",
    )


def present(partial: Path) -> int:
    """Bytes of a transfer that was begun, as far as the disk has them."""
    return sum(path.stat().st_size for path in partial.rglob("*") if path.is_file() and not path.is_symlink())


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(_DEPTH):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
