"""The digests of files outside the cache, remembered by path, size, times and inode: a large file is hashed once."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from lightship.assembled import FileState
from lightship.cache import Cache, file_digest

_REMEMBERED = 1 << 20  # bytes; smaller files are hashed faster than their record is read


def remembered_digest(source: Path, cache: Cache) -> str | None:
    """The digest of a file that was hashed before in the state that it is in; None where it has to be read."""
    record = cache.read_record("file-digests", _state_key(source, FileState.of(source)))
    return str(record["digest"]) if record else None


def remember_digest(source: Path, state: FileState, digest: str, cache: Cache) -> None:
    """Let `remembered_digest` know the digest of a file that was in this state before and after it was read."""
    if state.settled(time.time_ns()):
        cache.write_record("file-digests", _state_key(source, state), {"digest": digest})


def _state_key(source: Path, state: FileState) -> str:
    text = f"{source.resolve()}\0{state.size}\0{state.modified}\0{state.changed}\0{state.inode}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def known_digest(source: Path, cache: Cache) -> str:
    """The digest of a file, read only where it was not hashed before in the state that it is in. Raises `OSError`."""
    state = FileState.of(source)
    if state.size < _REMEMBERED:
        return file_digest(source)
    if known := remembered_digest(source, cache):
        return known
    digest = file_digest(source)
    if FileState.of(source) == state:
        remember_digest(source, state, digest, cache)
    return digest
