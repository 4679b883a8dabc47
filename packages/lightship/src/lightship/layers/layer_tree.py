"""One layer, unpacked by itself: a directory of its files, and a list of what it does to the layers below.

Kept by diff ID, so a layer is unpacked once however many images hold it. A layer starts from an empty directory and
every path in it is remembered, so nothing on disk has to be asked, or trusted, while it is written.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from lightship.cache import Cache, storage_error
from lightship.errors import IntegrityError
from lightship.layers.layer import Layer, plain_tar
from lightship.layers.tar_stream import Entry, Kind, TarStream
from lightship.progress import Progress, Task

KIND = "layers"  # of the trees in the cache
MOST_PATHS = 2_000_000  # as many as entries, since directories that no entry describes take memory too
DEEPEST = 256  # directories; deeper ones serve only to break programs that walk them
WHITEOUT = ".wh."  # image-spec layer.md, "Whiteouts"
OPAQUE = ".wh..wh..opq"
_VERSION = 1
_ABOVE = "files"
_BELOW = "below.json"


@dataclass
class Below:
    """What a layer does to those below it (OCI image-spec, layer.md, "Whiteouts"). Paths are relative to the root.

    Attributes:
        removed: Paths that disappear, with all they hold.
        emptied: Directories whose earlier content disappears.
        linked: Hard links (path, target) to files of lower layers.
        implied: Directories that no entry describes; they are below's own where it has them.
    """

    removed: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    linked: list[tuple[str, str]] = field(default_factory=list)
    implied: list[str] = field(default_factory=list)

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        document: dict[str, Any] = json.loads(content)
        return cls(**{**document, "linked": [(path, target) for path, target in document["linked"]]})


@dataclass(frozen=True)
class LayerTree:
    """An unpacked layer: the directory of its files, and what it does to the layers below."""

    files: Path
    below: Below


def layer_tree(layer: Layer, cache: Cache, progress: Progress) -> LayerTree:
    """The layer's tree, from the cache or unpacked now.

    Owners are kept only where this process is root; special files are left out, set-user-ID bits dropped.

    Raises:
        IntegrityError: The layer is damaged, or would write outside of its root.
        StorageError: The cache cannot be written.
    """

    def fill(directory: Path) -> None:
        files = directory / _ABOVE
        files.mkdir()
        writer = _TreeWriter(files, f"The layer {layer.title!r}")
        total = layer.unpacked_size or None
        with plain_tar(layer, cache) as chunks, progress.task(f"unpack {layer.title}", total) as task:
            stream = TarStream(_told(chunks, task), writer.name)
            for entry in stream:
                writer.add(entry, stream)
        (directory / _BELOW).write_text(json.dumps(asdict(writer.below())))

    # Owners are part of a tree made by root, so root and others never share one.
    owner = "owned" if os.geteuid() == 0 else "plain"
    tree = cache.make_tree(KIND, f"{layer.diff_id.replace(':', '-')}-{_VERSION}-{owner}", fill)
    return LayerTree(tree / _ABOVE, Below.from_json((tree / _BELOW).read_bytes()))


def _told(chunks: Iterator[bytes], task: Task) -> Iterator[bytes]:
    for chunk in chunks:
        task.advance(len(chunk))
        yield chunk


class _TreeWriter:
    """Writes entries beneath a directory that was empty at the start and that nobody else writes to."""

    def __init__(self, directory: Path, name: str) -> None:
        self._root = os.fspath(directory)
        self._kinds: dict[str, Kind] = {"": Kind.DIRECTORY}
        self._implied: set[str] = set()
        self._keeps_owners = os.geteuid() == 0
        self._below = Below()
        self.name = name

    def below(self) -> Below:
        """What the entries so far do to the layers below."""
        return replace(self._below, implied=sorted(self._implied))

    def add(self, entry: Entry, stream: TarStream) -> None:
        """Write one entry, or note what it does below."""
        path = self._inside(entry.path)
        parent, _, base = path.rpartition("/")
        if base.startswith(WHITEOUT):
            self._whiteout(parent, base, path)
        elif path == "":
            pass  # the root itself: always a directory, and its mode is ours
        elif entry.kind is Kind.DIRECTORY:
            self._parents(parent)
            self._directory(path, entry)
        elif entry.kind is Kind.HARDLINK:
            self._parents(parent)
            self._hardlink(path, self._inside(entry.target))
        elif entry.kind is not Kind.SPECIAL:  # an unprivileged user can make no devices; /dev is made anew anyway
            self._parents(parent)
            self._make_room(path)
            self._new(path, entry.kind)
            try:
                if entry.kind is Kind.SYMLINK:
                    Path(self._at(path)).symlink_to(entry.target)
                    self._give_away(self._at(path), entry)
                else:
                    self._file(path, entry, stream)
            except (OSError, ValueError) as error:
                raise self._refusal(error, path) from error

    def _file(self, path: str, entry: Entry, stream: TarStream) -> None:
        descriptor = os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for piece in stream.content():
                left = piece
                while left:
                    left = left[os.write(descriptor, left) :]
            self._give_away(descriptor, entry)
            os.fchmod(descriptor, entry.mode & 0o777 | 0o400)
            # Python compares the time of a source file with the one in its bytecode.
            os.utime(descriptor, (entry.modified, entry.modified))
        finally:
            os.close(descriptor)

    def _directory(self, path: str, entry: Entry) -> None:
        if self._kinds.get(path) is not Kind.DIRECTORY:
            self._make_room(path)
            self._new(path, Kind.DIRECTORY)
            self._mkdir(path)
        self._implied.discard(path)
        try:
            self._give_away(self._at(path), entry)
            # Its owner may always enter and change it: we are that owner, and a container sees it read-only.
            Path(self._at(path)).chmod(entry.mode & 0o1777 | 0o700)
        except OSError as error:
            raise self._refusal(error, path) from error

    def _hardlink(self, path: str, target: str) -> None:
        kind = self._kinds.get(target)
        if path == target or kind is Kind.DIRECTORY:
            raise IntegrityError(f"{self.name} holds the impossible hard link /{path} to /{target}.")
        self._make_room(path)
        if kind is None:
            self._below.linked.append((path, target))
            return
        self._new(path, kind)
        try:
            os.link(self._at(target), self._at(path), follow_symlinks=False)
        except OSError as error:
            raise self._refusal(error, path) from error

    def _whiteout(self, parent: str, base: str, path: str) -> None:
        if base == OPAQUE:
            self._below.emptied.append(parent)
        elif base.startswith(WHITEOUT * 2):
            pass  # notes of AUFS to itself, such as .wh..wh.plnk
        elif (removed := base.removeprefix(WHITEOUT)) in ("", ".", ".."):
            raise IntegrityError(f"{self.name} holds the whiteout /{path}, which names nothing that can be removed.")
        else:
            self._below.removed.append(f"{parent}/{removed}" if parent else removed)

    def _parents(self, path: str) -> None:
        """Make the directories that lead to an entry, where no entry did."""
        kind = self._kinds.get(path)
        if kind is Kind.DIRECTORY:
            return
        if kind is not None:
            raise IntegrityError(f"{self.name} writes beneath /{path}, which it made a {kind.value}.")
        self._parents(path.rpartition("/")[0])
        self._new(path, Kind.DIRECTORY)
        self._mkdir(path)
        self._implied.add(path)
        Path(self._at(path)).chmod(0o755)

    def _make_room(self, path: str) -> None:
        """Remove what an earlier entry of the same layer left at this path."""
        kind = self._kinds.get(path)
        if kind is Kind.DIRECTORY:
            raise IntegrityError(f"{self.name} holds /{path} as a directory and as something else.")
        if kind is not None:
            del self._kinds[path]
            Path(self._at(path)).unlink()

    def _new(self, path: str, kind: Kind) -> None:
        if len(self._kinds) > MOST_PATHS:
            raise IntegrityError(f"{self.name} holds more than {MOST_PATHS} paths.")
        self._kinds[path] = kind

    def _mkdir(self, path: str) -> None:
        try:
            Path(self._at(path)).mkdir()
        except (OSError, ValueError) as error:
            raise self._refusal(error, path) from error

    def _give_away(self, path: str | int, entry: Entry) -> None:
        if not self._keeps_owners or not (entry.uid or entry.gid):
            return
        try:
            if isinstance(path, int):
                os.fchown(path, entry.uid, entry.gid)
            else:
                os.lchown(path, entry.uid, entry.gid)
        except OSError as error:
            # In a user namespace root may lack these ids; then its containers run with its own id, as a user's do.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise

    def _inside(self, path: str) -> str:
        """A path of the archive relative to the root, in its one normal form."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in path:
            raise IntegrityError(f"{self.name} holds the path {path!r}, which leads out of it.")
        if len(parts) > DEEPEST:
            raise IntegrityError(f"{self.name} holds a path of {len(parts)} directories within each other.")
        return "/".join(parts)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _refusal(self, error: OSError | ValueError, path: str) -> Exception:
        if isinstance(error, OSError) and error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT):
            return storage_error(error, Path(self._at(path)))
        return IntegrityError(f"{self.name} holds /{path!r}, which cannot be written: {error}.")
