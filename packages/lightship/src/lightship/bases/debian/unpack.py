"""One package into the tree: which paths go where, which stay out, and what a package may not do.

Paths are those of a merged /usr, whatever the package was built for. Documentation, manuals and translations are
left out; copyright files, os-release and dpkg's records stay, for people and for scanners.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lightship.bases.debian.deb import open_deb
from lightship.bases.debian.filesystem import RootFileSystem
from lightship.bases.debian.lock import LockedDeb
from lightship.errors import IntegrityError
from lightship.layers.tar_stream import Kind

# What base-files turns into links: a merged /usr (Debian policy 3.2.1 of the file system hierarchy), and /run.
ALIASES = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib32": "usr/lib32",
    "lib64": "usr/lib64",
    "libx32": "usr/libx32",
    "var/run": "run",
    "var/lock": "run/lock",
}

_DOCUMENTATION = re.compile(r"usr/share/doc/(?!(?:.+/)?copyright(?:\.[^/]*)?$).+/.+")
_LEFT_OUT = re.compile(
    r"usr/(?:share/(?:man|info|lintian|bug|doc-base|menu|bash-completion|zsh|fish|gdb|gtk-doc|binfmts|apport|linda"
    r"|pixmaps|applications|gcc[^/]*/python|base-files|debianutils/shells\.d)|lib/binfmt\.d)(?:/.*)?"
    r"|usr/share/locale/.+"
    r"|usr/share/zoneinfo/(?:right|posix)(?:/.*)?"  # a second and a third copy, with leap seconds and without
    r"|usr/lib/python3[^/]*/(?:test|tests|idlelib|turtledemo|ensurepip|lib2to3/tests)(?:/.*)?"
    r"|usr/lib/python3[^/]*/(?:ctypes|unittest|distutils|tkinter|sqlite3)/tests?(?:/.*)?"
    r"|usr/lib/systemd(?:/.*)?"
    r"|etc/(?:update-motd\.d|init\.d|cron\.[a-z]+|logrotate\.d|skel)(?:/.*)?"
    r"|var/(?:backups|cache/ldconfig|mail|spool)(?:/.*)?"
    r"|boot"
)
_MODULE = re.compile(r"usr/lib/python3[^/]*/lib-dynload/(?P<module>[^./]+)\.[^/]*\.so")


@dataclass(frozen=True)
class Unpacked:
    """The control files of a package whose data is in the tree; `left_out` are the paths that are not."""

    package: LockedDeb
    control: dict[str, bytes]
    left_out: frozenset[str]


def unpack_all(
    files: Sequence[tuple[LockedDeb, Path]], tree: RootFileSystem, without_modules: Collection[str], jobs: int
) -> list[Unpacked]:
    """Unpack verified packages side by side; most of the time goes into decompression, which runs in parallel.

    Args:
        without_modules: Python extension modules that stay out, since their libraries do.

    Raises: `IntegrityError` naming the package that breaks a rule.
    """
    largest_first = sorted(files, key=lambda pair: -pair[0].size)
    with ThreadPoolExecutor(max(1, jobs), thread_name_prefix="unpack") as pool:
        unpacked = list(pool.map(lambda pair: _unpack(pair[0], pair[1], tree, without_modules), largest_first))
    return sorted(unpacked, key=lambda each: each.package.name)


def _unpack(package: LockedDeb, file: Path, tree: RootFileSystem, without_modules: Collection[str]) -> Unpacked:
    left_out = set()
    with open_deb(file, str(package)) as deb:
        control = deb.control()
        stream = deb.data()
        for entry in stream:
            path = _path(entry.path)
            if path in ("", *ALIASES):
                if entry.kind not in (Kind.DIRECTORY, Kind.SYMLINK):
                    raise IntegrityError(f"it has a {entry.kind.value} for /{path}, which is a directory")
                continue  # the base has these in its own way
            path = merged(path)
            if _stays_out(path, without_modules):
                left_out.add(path)
            else:
                target = merged(_path(entry.target)) if entry.kind is Kind.HARDLINK else entry.target
                tree.add_tar_entry(path, target, entry, stream)
    return Unpacked(package, control, frozenset(left_out))


def _path(path: str) -> str:
    """`./usr/bin/x` as `usr/bin/x`. The tree refuses what climbs or is absolute."""
    if path in (".", "./"):
        return ""
    path = path.removeprefix("./").removesuffix("/")
    if path.startswith("/") or posixpath.normpath(path) != path:
        raise IntegrityError(f"it holds the path {path!r}, which is absolute or climbs out of its directory")
    return path


def merged(path: str) -> str:
    """The path in a merged /usr.

    >>> merged("lib/x86_64-linux-gnu/libc.so.6")
    'usr/lib/x86_64-linux-gnu/libc.so.6'
    """
    for alias, real in ALIASES.items():
        if path == alias or path.startswith(f"{alias}/"):
            return real + path[len(alias) :]
    return path


def _stays_out(path: str, without_modules: Collection[str]) -> bool:
    if _LEFT_OUT.fullmatch(path) or _DOCUMENTATION.fullmatch(path):
        return True
    matched = _MODULE.fullmatch(path)
    return matched is not None and matched["module"] in without_modules
