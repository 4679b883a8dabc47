"""The base, locked: every Debian package by version and hash, and no host. newest.py makes one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lightship.bases.debian.index import checked, pool_path
from lightship.bases.debian.runtime import release_named
from lightship.bases.debian.version import upstream_version
from lightship.errors import IntegrityError, LockError, ProjectError

PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INTERPRETER = re.compile(r"python(3\.[0-9]+)-minimal")


@dataclass(frozen=True, order=True)
class LockedDeb:
    """One package file. `size` in bytes; `path` begins with pool/ and names no host."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    path: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class DebianLock:
    """Everything that decides the content of an assembled base; `packages` are sorted by name."""

    codename: str
    architecture: str
    packages: tuple[LockedDeb, ...]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in lightship.lock."""
        return {
            "codename": self.codename,
            "architecture": self.architecture,
            "packages": [asdict(package) for package in self.packages],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DebianLock:
        """Read back what `to_dict` wrote; a `LockError` names what is not of that form."""
        try:
            packages = tuple(sorted(_locked(entry) for entry in fields["packages"]))
            lock = cls(str(fields["codename"]), str(fields["architecture"]), packages)
            release_named(lock.codename, lock.architecture)
            if len({package.name for package in packages}) != len(packages):
                raise ValueError("a package is there twice")
            lock._interpreter()
        except (KeyError, TypeError, ValueError, IntegrityError, ProjectError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise LockError(
                f"The locked Debian base is not readable: {what}.", hint="Run `lightship lock` to write it anew."
            ) from error
        return lock

    @property
    def python_version(self) -> str:
        """The full version of the base's Python: 3.11.2."""
        return upstream_version(self._interpreter().version)

    @property
    def interpreter_path(self) -> str:
        """Where the Python is in the image: /usr/bin/python3.11."""
        return "/usr/bin/" + self._interpreter().name.removesuffix("-minimal")

    def has(self, name: str) -> bool:
        """Whether the package is part of the base."""
        return any(package.name == name for package in self.packages)

    def _interpreter(self) -> LockedDeb:
        for package in self.packages:
            if _INTERPRETER.fullmatch(package.name):
                return package
        raise ValueError("no Python is among the packages")


def _locked(entry: Mapping[str, Any]) -> LockedDeb:
    size = entry["size"]
    if not isinstance(size, int) or size <= 0:
        raise ValueError(f"{size!r} is not a size")
    return LockedDeb(
        name=checked(PACKAGE_NAME, str(entry["name"]), "package name"),
        version=checked(_VERSION, str(entry["version"]), "version"),
        architecture=checked(PACKAGE_NAME, str(entry["architecture"]), "architecture"),
        sha256=checked(_SHA256, str(entry["sha256"]), "sha256"),
        size=size,
        path=pool_path(str(entry["path"])),
    )


def differences(old: DebianLock, new: DebianLock) -> list[str]:
    """What changed from one lock to another, one line a package, for people."""
    before = {package.name: package for package in old.packages}
    after = {package.name: package for package in new.packages}
    lines = []
    if (old.codename, old.architecture) != (new.codename, new.architecture):
        lines.append(f"debian:{old.codename} ({old.architecture}) → debian:{new.codename} ({new.architecture})")
    for name in sorted(before | after):
        was, now = before.get(name), after.get(name)
        if was is None:
            lines.append(f"+ {now}")
        elif now is None:
            lines.append(f"- {was}")
        elif was.version != now.version:
            lines.append(f"  {name} {was.version} → {now.version}")
        elif was.sha256 != now.sha256:
            lines.append(f"  {name} {was.version}: the same version with other content")
    return lines
