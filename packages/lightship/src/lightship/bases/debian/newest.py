"""The newest packages of a base on the user's mirror, locked: what is signed, resolved, by version and hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lightship.bases.debian.index import PackageIndex
from lightship.bases.debian.lock import PACKAGE_NAME, DebianLock, LockedDeb
from lightship.bases.debian.mirrors import Mirrors, find_mirrors
from lightship.bases.debian.release import SNAPSHOT_VARIABLE, IndexFile, read_release
from lightship.bases.debian.resolver import resolve
from lightship.bases.debian.runtime import omissions, release_named, runtime_packages
from lightship.bases.debian.signature import find_keyring, verified
from lightship.download import Download, GoneError, download_all, fetch_bytes
from lightship.errors import NetworkError, ProjectError
from lightship.session import Session

_LARGEST_RELEASE = 8 << 20  # bytes of an InRelease; bookworm's main has 0.15 MB


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
        if not PACKAGE_NAME.fullmatch(name):
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
