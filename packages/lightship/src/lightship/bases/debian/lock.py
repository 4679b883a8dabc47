"""The base, locked: every Debian package by version and hash, and no host. `lock_debian` makes one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightship.bases.debian.index import PackageIndex, checked, pool_path
from lightship.bases.debian.mirrors import Mirrors, find_mirrors
from lightship.bases.debian.release import SNAPSHOT_VARIABLE, IndexFile, read_release
from lightship.bases.debian.resolver import resolve
from lightship.bases.debian.runtime import omissions, release_named, runtime_packages
from lightship.bases.debian.signature import find_keyring, verified
from lightship.bases.debian.version import upstream_version
from lightship.download import Download, GoneError, download_all, fetch_bytes
from lightship.errors import IntegrityError, LockError, NetworkError, ProjectError
from lightship.session import Session

_LARGEST_RELEASE = 8 << 20  # bytes of an InRelease; bookworm's main has 0.15 MB
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
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
        name=checked(_NAME, str(entry["name"]), "package name"),
        version=checked(_VERSION, str(entry["version"]), "version"),
        architecture=checked(_NAME, str(entry["architecture"]), "architecture"),
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


def lock_debian(
    codename: str,
    architecture: str,
    packages: Sequence[str],
    session: Session,
    *,
    mirror: str | None = None,
    keyring: Path | None = None,
) -> DebianLock:
    """Find the newest packages of a Python runtime, and of `packages` besides, on the user's mirror.

    Args:
        codename: bookworm or trixie.
        architecture: amd64 or arm64.
        packages: More package names, with all that they need.
        mirror: `[base] mirror`; None for the environment's or the host's (see `mirrors`).
        keyring: `[base] keyring`; None for the host's copy of Debian's.

    Raises: `NetworkError`, `IntegrityError` for what is not signed or has another hash, `LockError` for packages that
        cannot be resolved, `ProjectError` for an unknown release.
    """
    release = release_named(codename, architecture)
    for name in packages:
        if not _NAME.fullmatch(name):
            raise ProjectError(
                f"{name!r} is not the name of a Debian package.",
                hint="Write bare names under [base] packages; versions are decided by the lock.",
            )
    mirrors = find_mirrors(mirror, session.environ)
    trusted = find_keyring(keyring)
    suites = (codename, f"{codename}-updates", f"{codename}-security")
    with session.progress.task(f"Package lists of Debian {release.number} ({codename})"):
        with ThreadPoolExecutor(len(suites), thread_name_prefix="debian") as pool:
            files = list(pool.map(lambda suite: _index_file(suite, architecture, mirrors, trusted, session), suites))
        indexes = _fetch_indexes(dict(zip(suites, files, strict=True)), mirrors, session)
        wanted = tuple(dict.fromkeys((*runtime_packages(release), *packages)))
        chosen = resolve(wanted, indexes, architecture, omissions(release))
    return DebianLock(
        codename,
        architecture,
        tuple(
            LockedDeb(each.name, each.version, each.architecture, each.sha256, each.size, each.path)
            for each in chosen
        ),
    )


@dataclass(frozen=True)
class _Listed:
    """A Packages file of a suite: packed, as it is fetched, and the size that it unpacks to."""

    packed: IndexFile
    unpacked_size: int
    by_hash: bool


def _index_file(suite: str, architecture: str, mirrors: Mirrors, keyring: Path, session: Session) -> _Listed:
    url = f"{mirrors.of_suite(suite)}/dists/{suite}/InRelease"
    try:
        document = fetch_bytes(url, session, limit=_LARGEST_RELEASE)
    except GoneError as error:
        raise NetworkError(
            f"The mirror has no suite {suite}. {error.message}",
            hint="A base is made of a release, its updates and its security archive. Give the mirrors of both "
            "archives, separated by a space, if the second is not found beside the first.",
        ) from error
    text = verified(document, keyring, f"the InRelease of {suite}", session.cache, session.environ)
    snapshot = session.environ.get(SNAPSHOT_VARIABLE, "") not in ("", "0")
    contents = read_release(text, suite, datetime.now(UTC), snapshot=snapshot)
    path = f"main/binary-{architecture}/Packages"
    return _Listed(contents.file(f"{path}.xz"), contents.file(path).size, contents.by_hash)


def _fetch_indexes(listed: Mapping[str, _Listed], mirrors: Mirrors, session: Session) -> list[PackageIndex]:
    downloads = []
    for suite, each in listed.items():
        root = f"{mirrors.of_suite(suite)}/dists/{suite}"
        folder = each.packed.path.rpartition("/")[0]
        # By its hash a file stays what it is while the mirror is being updated; by its name it may not.
        by_hash = (f"{root}/{folder}/by-hash/SHA256/{each.packed.sha256}",) if each.by_hash else ()
        urls = (*by_hash, f"{root}/{each.packed.path}")
        downloads.append(Download(urls, each.packed.sha256, each.packed.size, f"package list of {suite}"))
    files = download_all(downloads, session, title="package lists")

    def read(suite: str) -> PackageIndex:
        each = listed[suite]
        return PackageIndex.of_file(suite, files[each.packed.sha256], each.unpacked_size)

    with ThreadPoolExecutor(len(listed), thread_name_prefix="debian") as pool:
        return list(pool.map(read, listed))
