"""Root file systems: an image's layers laid over each other, as a plain directory that a container can run in.

Each layer is unpacked once into a tree of its own (layer_tree.py), and trees are combined by hard links: after a
change of the app only its layer is unpacked, and many images share the bytes of one base. Containers get the
directory read-only, because its files are those of every other image with the same layers.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from lightship.cache import Cache, remove_tree, storing
from lightship.errors import IntegrityError
from lightship.layers.layer import Layer
from lightship.layers.layer_tree import LayerTree, layer_tree
from lightship.progress import Progress, Silent

KIND = "rootfs"  # of the trees in the cache
MOUNT_POINTS = ("proc", "sys", "dev", "tmp", "run")
HOST_FILES = ("etc/resolv.conf", "etc/hosts")
_VERSION = 1
_MOST_LINKS = 40  # symbolic links followed in one path, as in Linux


def root_filesystem(layers: Sequence[Layer], cache: Cache, progress: Progress | None = None) -> Path:
    """The root file system of these layers (base first), from the cache or made now. Nobody may change it.

    Raises:
        IntegrityError: A layer is damaged or hostile.
        StorageError: The cache cannot be written.
    """
    owner = "owned" if os.geteuid() == 0 else "plain"  # as the trees it is made of
    hashed = hashlib.sha256("\n".join(layer.diff_id for layer in layers).encode()).hexdigest()
    return cache.make_tree(
        KIND, f"{hashed}-{_VERSION}-{owner}", lambda directory: unpack(layers, cache, directory, progress)
    )


def unpack(layers: Sequence[Layer], cache: Cache, directory: Path, progress: Progress | None = None) -> None:
    """Lay the layers, base first, over each other in an empty directory, and add what a container mounts upon.

    The directory should be on the cache's file system, else files are copied. They are the cache's: only read them.

    Raises: as `root_filesystem`.
    """
    progress = progress or Silent()
    # One after the other: two threads, which mostly make small files, take longer than one (docs/decisions.md).
    trees = [layer_tree(layer, cache, progress) for layer in layers]
    with storing(directory):
        directory.chmod(0o755)
        for layer, tree in zip(layers, trees, strict=True):
            _Overlay(directory, f"The layer {layer.title!r}").apply(tree)
        _add_mount_points(directory)


def resolve(root: Path, path: str) -> str | None:
    """The place that `path` names inside `root` when links are followed as in a container, relative to `root`.

    None where it does not exist. Absolute links start at `root`, and `..` at the root stays there.

    >>> resolve(Path("/"), "proc/self/../.")
    'proc'
    """
    done: list[str] = []
    left = list(reversed(path.split("/")))
    followed = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        here = os.fspath(root.joinpath(*done, part))
        try:
            mode = os.lstat(here).st_mode
        except OSError:
            return None
        if not stat.S_ISLNK(mode):
            done.append(part)
            continue
        followed += 1
        if followed > _MOST_LINKS:
            return None
        target = os.readlink(here)  # noqa: PTH115 - the text as it is
        if target.startswith("/"):
            done = []
        left.extend(reversed(target.split("/")))
    return "/".join(done)


class _Overlay:
    """Lays one layer's tree over what is in a directory, as an engine applies the layer."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name
        self._implied: frozenset[str] = frozenset()

    def apply(self, tree: LayerTree) -> None:
        below = tree.below
        for path in below.removed:
            parent, _, name = path.rpartition("/")
            if (found := resolve(self._root, parent)) is not None:
                _remove(self._root / found / name)
        for path in below.emptied:
            if (found := resolve(self._root, path)) is not None and (self._root / found).is_dir():
                for child in (self._root / found).iterdir():
                    _remove(child)
        self._implied = frozenset(below.implied)
        self._directory(os.fspath(tree.files), os.fspath(self._root), "", new=False)
        for path, target in below.linked:
            self._link_below(path, target)

    def _directory(self, source: str, target: str, path: str, *, new: bool) -> None:
        """Lay the directory `source` (`path` in the layer) over `target`, which is empty where it is `new`."""
        with os.scandir(source) as found:
            entries = list(found)
        for entry in entries:
            place = f"{target}/{entry.name}"
            inside = f"{path}/{entry.name}" if path else entry.name
            if entry.is_dir(follow_symlinks=False):
                place, made = self._enter(entry, place, inside, new=new)
                self._directory(entry.path, place, inside, new=made)
            else:
                if not new:
                    _remove(Path(place))
                _link(entry.path, place)

    def _enter(self, entry: os.DirEntry[str], place: str, path: str, *, new: bool) -> tuple[str, bool]:
        """The directory to lay `entry` over, and whether it was made now."""
        status = entry.stat(follow_symlinks=False)
        implied = path in self._implied
        if not new and os.path.lexists(place):
            if implied and Path(place).is_symlink():
                # Only files beneath it are in the layer, and below it is a link, such as /lib of merged /usr.
                within = os.path.relpath(place, self._root)
                if (found := resolve(self._root, within)) is not None and (self._root / found).is_dir():
                    return os.fspath(self._root / found), False
            if Path(place).is_dir() and not Path(place).is_symlink():
                if not implied:
                    _dress(place, status)
                return place, False
            _remove(Path(place))
        Path(place).mkdir()
        _dress(place, status)
        return place, True

    def _link_below(self, path: str, target: str) -> None:
        source = resolve(self._root, target)
        parent = resolve(self._root, path.rpartition("/")[0])
        if source is None or parent is None or (self._root / source).is_dir():
            raise IntegrityError(f"{self._name} holds the hard link /{path} to /{target}, which is no file here.")
        place = self._root / parent / path.rpartition("/")[2]
        if self._root / source != place:
            _remove(place)
            _link(os.fspath(self._root / source), os.fspath(place))


def _add_mount_points(root: Path) -> None:
    """Add what a container mounts upon where the image lacks it, as an engine would when it starts one."""
    for name in MOUNT_POINTS:
        place = root / name
        if place.is_symlink() or not place.is_dir():
            _remove(place)
            place.mkdir()
    etc = root / "etc"
    if not os.path.lexists(etc):
        etc.mkdir()
        etc.chmod(0o755)
    if etc.is_symlink() or not etc.is_dir():
        return  # nothing is mounted there then
    for name in HOST_FILES:
        place = root / name
        if place.is_symlink() or not place.is_file():
            _remove(place)
            place.touch()
            place.chmod(0o644)


def _dress(place: str, status: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.lchown(place, status.st_uid, status.st_gid)
    Path(place).chmod(stat.S_IMODE(status.st_mode))


def _link(source: str, place: str) -> None:
    """One more name for a file; a copy where there can be none."""
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError as error:
        # File systems without hard links, a file with as many as there can be, a directory on another device.
        if error.errno not in (errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP):
            raise
        shutil.copy2(source, place, follow_symlinks=False)
        if os.geteuid() == 0:
            status = os.lstat(source)
            os.lchown(place, status.st_uid, status.st_gid)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        remove_tree(place)
    else:
        place.unlink(missing_ok=True)
