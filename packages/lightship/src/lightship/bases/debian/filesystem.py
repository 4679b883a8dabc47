"""A root file system under construction: contents on disk, attributes in memory.

Modes and owners are kept here and not on the disk, so that they depend neither on the user nor on the umask. On
disk every symbolic link is relative and stays inside, so that the tree can be used in place without a chroot.
Nothing is ever written through a link: each parent of a new entry must be a directory of this tree.
"""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightship.cache import CHUNK, storing
from lightship.errors import IntegrityError
from lightship.layers import TarWriter, safe_path, tar_stream

_COLLISION = "If two packages bring it, leave one of them out of `packages` under [base]."
_USUAL = 0o755  # the mode of a directory that nobody announced

Kind = Literal["file", "directory", "symlink", "hardlink"]


@dataclass(frozen=True)
class Entry:
    """One path: what it is, its mode, its owner, and where a link points to."""

    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    target: str = ""


class RootFileSystem:
    """Entries by path, without a leading slash. Safe to fill from several threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def add_directory(self, path: str, *, mode: int = _USUAL, uid: int = 0, gid: int = 0) -> None:
        """Add a directory. Where two announce it with different modes, 0755 yields and the lower mode counts.

        The rule does not depend on the order, since packages are unpacked side by side.
        """
        safe_path(path)
        with self._lock:
            if (there := self.entries.get(path)) is None:
                self._make_directory(path, Entry("directory", mode, uid, gid))
            elif there.kind != "directory":
                raise IntegrityError(f"/{path} is a {there.kind} and a directory", hint=_COLLISION)
            elif there.mode != mode:
                special = [each for each in (there.mode, mode) if each != _USUAL]
                self.entries[path] = Entry("directory", min(special), uid, gid)

    def change_directory(self, path: str, *, mode: int, uid: int = 0, gid: int = 0) -> None:
        """Decide the attributes of a directory, whether or not it is there."""
        self.add_directory(path)
        with self._lock:
            self.entries[path] = Entry("directory", mode, uid, gid)

    def add_file(
        self, path: str, content: Iterable[bytes | memoryview], *, mode: int = 0o644, uid: int = 0, gid: int = 0
    ) -> None:
        """Add a regular file."""
        disk = self._reserve(path, Entry("file", mode, uid, gid))
        size = 0
        with storing(disk):
            descriptor = os.open(disk, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor)
                os.fchmod(descriptor, 0o755 if mode & 0o111 else 0o644)
                for piece in content:
                    size += len(piece)
                    file.write(piece)
        self.entries[path] = Entry("file", mode, uid, gid, size)

    def add_symlink(self, path: str, target: str) -> None:
        """Add a symbolic link; the same link twice is one."""
        entry = Entry("symlink", 0o777, target=target)
        if not target or "\0" in target:
            raise IntegrityError(f"/{path} is a link to nothing")
        if self.entries.get(path) == entry:
            return
        disk = self._reserve(path, entry)
        with storing(disk):
            disk.symlink_to(inside(path, target))

    def add_hardlink(self, path: str, target: str) -> None:
        """Add another name of a regular file that is there."""
        there = self.entries.get(target)
        if there is None or there.kind != "file":
            raise IntegrityError(f"/{path} is a hard link to /{target}, which is no file of this package")
        disk = self._reserve(path, Entry("hardlink", there.mode, there.uid, there.gid, there.size, target))
        with storing(disk):
            os.link(self.directory / target, disk)

    def add_tar_entry(self, path: str, target: str, entry: tar_stream.Entry, stream: tar_stream.TarStream) -> None:
        """Add the current entry of a tar stream. Root owns it; set-user-ID and set-group-ID bits are dropped."""
        if entry.kind is tar_stream.Kind.DIRECTORY:
            self.add_directory(path, mode=entry.mode & 0o1777)
        elif entry.kind is tar_stream.Kind.SYMLINK:
            self.add_symlink(path, target)
        elif entry.kind is tar_stream.Kind.HARDLINK:
            self.add_hardlink(path, target)
        elif entry.kind is tar_stream.Kind.FILE:
            self.add_file(path, stream.content(), mode=entry.mode & 0o777)
        else:
            raise IntegrityError(f"/{path} is a {entry.kind.value}")

    def resolved(self, path: str) -> str | None:
        """The path of what `path` leads to, all links followed within the tree; None if it leads nowhere."""
        waiting, done = list(reversed(path.split("/"))), ""
        for _ in range(10_000):
            if not waiting:
                return done
            part = waiting.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}" if done else part
            entry = self.entries.get(here)
            if entry is None:
                return None
            if entry.kind == "symlink":
                if entry.target.startswith("/"):
                    done = ""
                waiting.extend(reversed(entry.target.split("/")))
            else:
                done = here
        return None

    def read(self, path: str) -> bytes:
        """The content of a small file of the tree, links followed."""
        found = self.resolved(path)
        if found is None or self.entries[found].kind not in ("file", "hardlink"):
            raise IntegrityError(f"The base has no file /{path}.")
        return (self.directory / found).read_bytes()

    def __contains__(self, path: str) -> bool:
        return path in self.entries

    def under(self, folder: str) -> list[str]:
        """The paths below a folder, sorted."""
        return sorted(path for path in self.entries if path.startswith(f"{folder}/"))

    def children(self, folder: str) -> list[str]:
        """The names directly in a folder, sorted."""
        start = len(folder) + 1
        return sorted(path[start:] for path in self.entries if path.rpartition("/")[0] == folder)

    def write_to(self, tar: TarWriter) -> None:
        """Write every entry, sorted by path. Of several hard links the first by path becomes the file."""
        first_names: dict[str, str] = {}
        for path in sorted(self.entries):
            entry = self.entries[path]
            if entry.kind == "directory":
                tar.directory(path, mode=entry.mode, uid=entry.uid, gid=entry.gid)
            elif entry.kind == "symlink":
                tar.symlink(path, entry.target)
            elif (first := first_names.setdefault(entry.target or path, path)) == path:
                content = self._content(path)
                tar.file(path, entry.size, content, mode=entry.mode, uid=entry.uid, gid=entry.gid)
            else:
                tar.hardlink(path, first)

    def _content(self, path: str) -> Iterator[bytes]:
        with (self.directory / path).open("rb") as file:
            while piece := file.read(CHUNK):
                yield piece

    def _reserve(self, path: str, entry: Entry) -> Path:
        """Enter a path that is new, and make its parents."""
        safe_path(path)
        with self._lock:
            if path in self.entries:
                raise IntegrityError(f"/{path} comes twice", hint=_COLLISION)
            self._make_parents(path)
            self.entries[path] = entry
        return self.directory / path

    def _make_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if not parent:
            return
        there = self.entries.get(parent)
        if there is None:
            self._make_directory(parent, Entry("directory", _USUAL))
        elif there.kind != "directory":
            raise IntegrityError(f"/{path} would be written through /{parent}, which is a {there.kind}")

    def _make_directory(self, path: str, entry: Entry) -> None:
        self._make_parents(path)
        disk = self.directory / path
        with storing(disk):
            disk.mkdir()
            disk.chmod(0o755)
        self.entries[path] = entry


def unpack(stream: tar_stream.TarStream, directory: Path) -> None:
    """Fill a directory from the plain tar of a layer that a `RootFileSystem` wrote."""
    tree = RootFileSystem(directory)
    for entry in stream:
        tree.add_tar_entry(entry.path.rstrip("/"), entry.target, entry, stream)


def inside(path: str, target: str) -> str:
    """The relative target that means within the tree what `target` means in the image.

    >>> inside("lib64/ld.so", "/lib/ld.so")
    '../lib/ld.so'
    >>> inside("etc/passwd", "../../../../etc/shadow")
    'shadow'
    """
    folder = "/" + path.rpartition("/")[0]
    return posixpath.relpath(posixpath.normpath(posixpath.join(folder, target)), folder)
