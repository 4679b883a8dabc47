"""The content-addressed store: blobs by sha256, and small JSON records by key.

Layout of the directory (versioned as a whole, so that a change of layout never meets old files):

    v1/blobs/sha256/<hex>           immutable bytes: downloads, layers, configs, manifests
    v1/records/<kind>/<key>.json    what was derived from what, e.g. wheel layer key -> digest, diff ID, size
    v1/trees/<kind>/<key>/          unpacked directories, e.g. a root file system for the embedded engine
    v1/images/<name>/               the OCI layout of each image that was built, its blobs hard links to the above
    v1/locks/<name>                 advisory locks, so that parallel builds do not do the same work twice
    v1/tmp/                         writes under way

Every write goes to tmp/ and is renamed into place, so a kill at any moment leaves either the whole file or
none of it. A blob's size is checked against its record on use, which catches what a power failure can leave
(a renamed but empty file) without paying for an fsync of every layer. Correctness never depends on locks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lightship.assembled import Assembly
from lightship.errors import IntegrityError, LightshipError, StorageError

VERSION = "v1"
CHUNK = 1 << 20  # bytes read at a time where a whole file is passed through
STALE_TEMPORARY = 24 * 3600  # seconds after which a file in tmp/ belongs to a process that died

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}")


class Cache:
    """A cache directory. Opening one touches nothing; directories are made by the first write."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / VERSION
        # What another cache holds: for as long as this object lives, because it is believed, not verified.
        self._adopted: dict[tuple[str, str], dict[str, Any]] = {}
        self._elsewhere: dict[str, str] = {}

    # Blobs

    def blob_path(self, digest: str) -> Path:
        """Where the blob `sha256:<hex>` lies, whether or not it exists."""
        if not _DIGEST.fullmatch(digest):
            raise IntegrityError(f"{digest!r} is not a sha256 digest of the form sha256:<64 hex digits>.")
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here (and has `size` bytes, where given), stored or to be assembled."""
        path = self.blob_path(digest)
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            assembly = self.assembly(digest)
            return assembly is not None and size in (None, assembly.size) and assembly.is_intact()
        if size is not None and found.st_size != size:
            return False
        _mark_used(path, found.st_mtime)
        return True

    def is_stored(self, digest: str) -> bool:
        """Whether the blob's bytes lie in this cache, instead of being assembled when they are wanted."""
        return self.blob_path(digest).is_file()

    def open_blob(self, digest: str) -> BinaryIO:
        """The blob as a file to read. Raises `FileNotFoundError` where it is not here."""
        try:
            return self.blob_path(digest).open("rb")
        except FileNotFoundError:
            if (assembly := self.assembly(digest)) is None:
                raise
            return assembly.open()

    def assembly(self, digest: str) -> Assembly | None:
        """How the blob is put together from files that lie elsewhere; None for one that never was."""
        record = self.read_record("assemblies", self.blob_path(digest).name)
        return Assembly.of_record(record) if record else None

    def add_assembly(self, digest: str, assembly: Assembly) -> None:
        """Let a blob be here that is put together from files that lie elsewhere; the caller has hashed it."""
        self.write_record("assemblies", self.blob_path(digest).name, assembly.to_record())

    @contextmanager
    def new_blob(self) -> Iterator[BlobWriter]:
        """Write a blob whose digest is known at the end: `with cache.new_blob() as blob: blob.write(...)`.

        The blob is stored under its digest when the block ends well, and gone without a trace otherwise.
        """
        with self.temporary_file() as path, storing(path):
            with path.open("wb") as file:
                writer = BlobWriter(file)
                yield writer
            self._place(path, self.blob_path(writer.digest))

    def add_blob(self, content: bytes) -> str:
        """Store small content (JSON, say) and return its digest."""
        with self.new_blob() as blob:
            blob.write(content)
        return blob.digest

    def keep_file(self, path: Path, digest: str) -> Path:
        """Move a finished temporary file, whose digest the caller has verified, into place as a blob."""
        target = self.blob_path(digest)
        with storing(target):
            self._place(path, target)
        return target

    # Records

    def read_record(self, kind: str, key: str) -> dict[str, Any] | None:
        """The record, or None where there is none (an unreadable one counts as none)."""
        try:
            record = json.loads(self._record_path(kind, key).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return self._adopted.get((kind, key))
        return record if isinstance(record, dict) else None

    def adopt(self, kind: str, key: str, record: dict[str, Any], digest: str, place: str) -> None:
        """Believe a record of somebody else's for now, and that the blob it is about can be had at a place."""
        if _KEY.fullmatch(key):
            self._adopted[kind, key] = record
            self._elsewhere[digest] = place

    def note_elsewhere(self, digest: str, place: str) -> None:
        """A blob that is not here can be had at a place; what came from there is verified as it comes."""
        self._elsewhere.setdefault(digest, place)

    def elsewhere(self, digest: str) -> str | None:
        """Where a blob that is not here can be had; None where nobody has said it."""
        return self._elsewhere.get(digest)

    def write_record(self, kind: str, key: str, record: dict[str, Any]) -> None:
        """Store a small JSON object under a key; the last writer wins."""
        target = self._record_path(kind, key)
        with self.temporary_file() as path, storing(target):
            with path.open("w") as file:
                json.dump(record, file, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())  # tiny, and everything else is found through it
            self._place(path, target)

    def _record_path(self, kind: str, key: str) -> Path:
        for part in (kind, key):
            if not _KEY.fullmatch(part):
                raise ValueError(f"not a record name: {part!r}")
        return self.root / "records" / kind / f"{key}.json"

    # Trees

    def tree_path(self, kind: str, key: str) -> Path:
        """Where the unpacked directory lies, whether or not it exists; if it exists it is complete."""
        return self.root / "trees" / kind / key

    def make_tree(self, kind: str, key: str, fill: Callable[[Path], None]) -> Path:
        """The unpacked directory `key`, made by `fill(empty_directory)` if it is not there yet."""
        target = self.tree_path(kind, key)
        if target.is_dir():
            _mark_used(target, target.stat().st_mtime)
            return target
        with self.lock(_lock_of(target)):
            if target.is_dir():
                return target
            with self.temporary_directory() as path, storing(target):
                tree = path / "tree"
                tree.mkdir()
                fill(tree)
                target.parent.mkdir(parents=True, exist_ok=True)
                tree.rename(target)
        return target

    def held_tree(self, make: Callable[[], Path]) -> tuple[Path, BinaryIO | None]:
        """The tree that `make` finds or makes, kept from pruning until the file that comes with it is closed.

        The kernel closes it when this process dies. There is none where the cache cannot be written.
        """
        while True:
            tree = make()
            try:
                held = self._locked_file(_lock_of(tree), fcntl.LOCK_SH)
            except OSError:
                return tree, None
            if tree.is_dir():
                return tree, held
            held.close()  # it was pruned before it was held

    # Places for work under way

    @contextmanager
    def temporary_file(self) -> Iterator[Path]:
        """A path in tmp/ that is removed at the end, unless it was moved away."""
        path = self._temporary_name()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def temporary_directory(self) -> Iterator[Path]:
        """An empty directory in tmp/ that is removed at the end."""
        path = self._temporary_name()
        with storing(path):
            path.mkdir()
        try:
            yield path
        finally:
            remove_tree(path)

    def _temporary_name(self) -> Path:
        directory = self.root / "tmp"
        with storing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        return directory / f"{os.getpid()}-{time.monotonic_ns()}-{os.urandom(4).hex()}"

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold an advisory lock; another process that wants the same waits. Released by the kernel on death."""
        with storing(self.root / "locks" / name):
            file = self._locked_file(name, fcntl.LOCK_EX)
        with file:
            yield

    def _locked_file(self, name: str, operation: int) -> BinaryIO:
        """A file under an advisory lock (flock(2)), which closing it releases."""
        path = self.root / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        try:
            fcntl.flock(file, operation)
        except BaseException:
            file.close()
            raise
        return file

    def sweep(self) -> None:
        """Remove what killed processes left in tmp/ more than a day ago."""
        try:
            left = list((self.root / "tmp").iterdir())
        except (FileNotFoundError, PermissionError):
            return
        for path in left:
            try:
                old = path.lstat().st_mtime < time.time() - STALE_TEMPORARY
            except FileNotFoundError:
                continue
            if old:
                remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)

    # What it holds, and making it smaller

    def image_path(self, name: str) -> Path:
        """Where the OCI layout of the image `name` lies."""
        return self.root / "images" / name.replace("/", "_").replace(":", "_")

    def entries(self) -> list[Entry]:
        """Everything that can be removed by itself, least recently used first. All of it can be made again."""
        found: list[Entry] = []
        for kind, pattern in (("blob", "blobs/sha256/*"), ("tree", "trees/*/*"), ("image", "images/*")):
            for path in self.root.glob(pattern):
                try:
                    status = path.stat()
                    size = status.st_size if kind == "blob" else _tree_size(path)
                except FileNotFoundError:  # another process prunes too
                    continue
                found.append(Entry(kind, path, size, status.st_mtime))
        return sorted(found, key=lambda entry: entry.last_used)

    def prune(self, *, unused_for: float = 0.0, keep_bytes: int | None = None) -> tuple[int, int]:
        """Remove what was not used for `unused_for` seconds, and the least recently used until `keep_bytes` are left.

        Returns how many entries went and how many bytes they had. A build that runs meanwhile makes again what it
        misses; trees that containers run in stay.
        """
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        removed = freed = 0
        for entry in entries:
            stale = entry.last_used <= time.time() - unused_for
            if not (stale if keep_bytes is None else total > keep_bytes):
                continue
            with storing(entry.path):
                if not self._remove(entry):
                    continue
            removed, freed, total = removed + 1, freed + entry.size, total - entry.size
        self.sweep()
        return removed, freed

    def _remove(self, entry: Entry) -> bool:
        """Remove an entry unless somebody holds it."""
        if entry.kind == "blob":
            entry.path.unlink(missing_ok=True)
        elif entry.kind == "image":
            remove_tree(entry.path)
        else:
            try:
                held = self._locked_file(_lock_of(entry.path), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            # Renamed at once, because a tree that exists is complete, and removed when nobody waits for the lock.
            with self.temporary_directory() as away, held, suppress(FileNotFoundError):
                entry.path.rename(away / "tree")
        return True

    def damaged_blobs(self, advance: Callable[[int], None]) -> list[Path]:
        """Read every blob; return those whose content is not what their name says. `advance` is told of bytes read.

        The files are hashed side by side, because hashing leaves the interpreter's lock alone.
        """
        from concurrent.futures import ThreadPoolExecutor

        def check(path: Path) -> Path | None:
            try:
                digest, size = file_digest(path), path.stat().st_size
            except FileNotFoundError:  # another process prunes
                return None
            advance(size)
            return path if digest != f"sha256:{path.name}" else None

        with ThreadPoolExecutor() as pool:
            found = pool.map(check, sorted((self.root / "blobs" / "sha256").glob("*")))
        return [path for path in found if path is not None]

    @staticmethod
    def _place(path: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


@dataclass(frozen=True)
class Entry:
    """Something in the cache: a blob, an unpacked tree or an image's layout. `last_used` is in seconds since 1970."""

    kind: str
    path: Path
    size: int
    last_used: float


class BlobWriter:
    """Counts and hashes what passes through on its way into a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the errors of a disk into errors for people; `path` is what was being written."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path) -> LightshipError:
    """The `StorageError` for an operating system error met while writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free some space (`lightship cache prune`), or set LIGHTSHIP_CACHE to a directory on a larger disk."
        return StorageError(f"The disk is full: could not write {path}.", hint=hint)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "Set LIGHTSHIP_CACHE to a directory that you may write to, or mend the permissions of this one."
        return StorageError(f"No permission to write {path} ({error.strerror}).", hint=hint)
    return StorageError(f"Could not write {path}: {error.strerror or error}.")


def _lock_of(tree: Path) -> str:
    """The name of the lock of a tree in the cache."""
    return f"tree-{tree.parent.name}-{tree.name}"


def _mark_used(path: Path, last_used: float) -> None:
    """Note the use of an entry for `prune`; at most once an hour, and never a reason to fail (read-only caches)."""
    if last_used < time.time() - 3600:
        with suppress(OSError):
            os.utime(path)


def _tree_size(path: Path) -> int:
    """Bytes of a tree's own files; a file with further hard links belongs to the blob or tree that it came from."""
    sizes = (file.lstat() for file in path.rglob("*"))
    return sum(status.st_size for status in sizes if status.st_nlink == 1)


def remove_tree(path: Path) -> None:
    """Remove a directory even where an unpacked image made parts of it read-only."""

    def unlock(function: Callable[[str], Any], name: str, _: object) -> None:
        Path(name).parent.chmod(0o700)
        Path(name).chmod(0o700, follow_symlinks=False) if not Path(name).is_symlink() else None
        function(name)

    shutil.rmtree(path, onerror=unlock)


def file_digest(path: Path) -> str:
    """The digest `sha256:<hex>` of a file, read in pieces."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
