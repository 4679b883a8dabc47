"""Which package brought a file: Debian's records and those of Python distributions, read from the image itself.

Debian keeps a list per package in `info/` and one `status` for all; images without apt keep both per package in
`status.d/`. A Python distribution lists its files in RECORD (packaging specifications, "Recording installed
projects").
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_RECORD = re.compile(r"(?:.*/)?([^/]+)\.dist-info/RECORD")
_LIST = re.compile(r"var/lib/dpkg/(?:status\.d|info)/([^/]+)\.(?:md5sums|list)")
_STATUS = re.compile(r"var/lib/dpkg/(?:status|status\.d/(?!.*\.(?:md5sums|list)$)[^/]+)")
_PACKAGE = re.compile(r"^Package: *([a-z0-9][a-z0-9+.-]{0,200})[ \t]*$", re.MULTILINE)
_VERSION = re.compile(r"^Version: *([0-9A-Za-z.+:~-]{1,200})[ \t]*$", re.MULTILINE)
_BYTECODE = re.compile(r"((?:.*/)?)__pycache__/([^/]+?)\.[a-z]+-[0-9]+(?:\.opt-[0-9a-z]+)?\.pyc")  # PEP 3147, PEP 488

DEBIAN = "debian"
PYTHON = "python"
RUNTIME = "runtime"
OWN_KINDS = (RUNTIME, "app", "weights")  # layers of ours that hold one thing each


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Who brought a file: `kind` is debian, python, runtime, app, weights or layer."""

    kind: str
    name: str
    version: str = ""

    @property
    def is_package(self) -> bool:
        return self.kind in (DEBIAN, PYTHON, RUNTIME)


@dataclass(frozen=True)
class Metadata:
    """What one record says: the files of a package, or the versions of packages."""

    owner: Owner | None = None
    paths: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """Characters that are kept of it."""
        return sum(map(len, self.paths)) + sum(len(name) + len(version) for name, version in self.versions.items())


def is_metadata(path: str) -> bool:
    """Whether `read_metadata` knows what to do with the file."""
    if path.endswith(".dist-info/RECORD"):
        return True
    return path.startswith("var/lib/dpkg/") and bool(_LIST.fullmatch(path) or _STATUS.fullmatch(path))


def read_metadata(path: str, content: bytes) -> Metadata:
    """Read one record. Where it is damaged it says nothing, and the files count to their layer."""
    text = content.decode("utf-8", "surrogateescape")
    if match := _RECORD.fullmatch(path):
        name, _, version = match[1].partition("-")
        site = posixpath.dirname(posixpath.dirname(path))
        return Metadata(Owner(PYTHON, name.replace("_", "-").lower(), version), tuple(_recorded(text, site)))
    if match := _LIST.fullmatch(path):
        lines = text.splitlines()
        if path.endswith(".md5sums"):
            lines = [line.partition("  ")[2] for line in lines]
        return Metadata(Owner(DEBIAN, match[1].partition(":")[0]), tuple(_absolute(line) for line in lines if line))
    versions = {}
    for paragraph in text.split("\n\n"):
        if (package := _PACKAGE.search(paragraph)) and (version_line := _VERSION.search(paragraph)):
            versions[package[1]] = version_line[1]
    return Metadata(versions=versions)


def _recorded(text: str, site: str) -> Iterable[str]:
    try:
        return [_absolute(posixpath.join("/" + site, row[0])) for row in csv.reader(text.splitlines()) if row]
    except csv.Error:
        return []


def _absolute(path: str) -> str:
    """The path from the root of the image; `..` ends there."""
    return posixpath.normpath("/" + path).lstrip("/")


class Packages:
    """Finds the owner of a path."""

    def __init__(self, records: Iterable[Metadata], links: Mapping[str, str]) -> None:
        """`links` are the symbolic links of the root directory: Debian's lists say /lib for /usr/lib."""
        kept = list(records)
        versions = {name: version for record in kept for name, version in record.versions.items()}
        self._links = {name: _absolute(target) for name, target in links.items()}
        self._owners: dict[str, Owner] = {}
        # Debian's last: a distribution that Debian packaged is Debian's to update.
        for record in sorted(kept, key=lambda each: each.owner is not None and each.owner.kind == DEBIAN):
            if owner := record.owner:
                if owner.kind == DEBIAN:
                    owner = Owner(DEBIAN, owner.name, versions.get(owner.name, ""))
                for path in record.paths:
                    self._owners[self._real(path)] = owner

    def owner(self, path: str) -> Owner | None:
        """The package that brought the file; bytecode belongs to its source's."""
        if found := self._owners.get(path):
            return found
        if match := _BYTECODE.fullmatch(path):
            return self._owners.get(f"{match[1]}{match[2]}.py")
        return None

    def _real(self, path: str) -> str:
        first, slash, rest = path.partition("/")
        return f"{self._links[first]}/{rest}" if slash and first in self._links else path
