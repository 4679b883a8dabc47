"""PEP 751: the one wheel per package that a pylock.toml holds for a target, and our lock written as one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from lightship.errors import LockError, StorageError
from lightship.lock.file import Lock
from lightship.lock.offers import Offer
from lightship.lock.sources import Source, source_of_package
from lightship.lock.target import Target

if TYPE_CHECKING:
    from packaging.markers import Environment
    from packaging.pylock import Package, PackageArchive, PackageWheel

WHEELS_FOLDER = "wheels"  # beside a pylock.toml that we write


def select_offers(
    content: Mapping[str, Any],
    target: Target,
    directory: Path,
    title: str,
    allowed: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Offer, ...]:
    """Exactly one wheel per package for the target, as `select_packages`; a package without one is an error."""
    offers = []
    for chosen in select_packages(content, target, directory, title, allowed):
        if isinstance(chosen, Source):
            raise LockError(
                f"{title}: {chosen.name}: no wheel fits {target}, only source that would have to be built.",
                hint=_remedy(),
            )
        offers.append(chosen)
    return tuple(offers)


def select_packages(
    content: Mapping[str, Any],
    target: Target,
    directory: Path,
    title: str,
    allowed: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Offer | Source, ...]:
    """One wheel per package for the target, or what one can be built of: markers evaluated, best tag first.

    Args:
        content: A pylock.toml as read.
        directory: What its paths are relative to.
        title: The file's name, for messages.
        allowed: The sha256 that the user allows, by package; packages without an entry may have any.

    Raises: `LockError` naming the package and the remedy.
    """
    from packaging.pylock import PackageArchive, PackageWheel, Pylock, PylockSelectError, PylockValidationError

    offers: list[Offer | Source] = []
    try:
        lock = Pylock.from_dict(_prepared(content, allowed or {}, title))
        for package, chosen in lock.select(environment=cast("Environment", target.markers()), tags=target.tags()):
            if isinstance(chosen, PackageWheel | PackageArchive) and _file_name(chosen).endswith(".whl"):
                offers.append(_offer(package, chosen, target, directory, title))
            else:
                assert not isinstance(chosen, PackageWheel)
                offers.append(source_of_package(package, chosen, directory, title))
    except PylockValidationError as error:
        raise LockError(f"{title} is not a valid pylock.toml (PEP 751): {error}.") from error
    except PylockSelectError as error:
        raise LockError(f"{title} has nothing for {target}: {error}.", hint=_remedy()) from error
    return tuple(offers)


def all_urls(content: Mapping[str, Any], directory: Path) -> dict[str, str]:
    """Where every wheel of a pylock.toml may be had, by sha256, whether or not it fits a target."""
    urls = {}
    for package in content.get("packages", []):
        archive = package.get("archive")
        for wheel in [*package.get("wheels", []), *([archive] if archive else [])]:
            sha256 = wheel.get("hashes", {}).get("sha256")
            if isinstance(sha256, str) and (place := wheel.get("url") or wheel.get("path")):
                urls[sha256.lower()] = wheel["url"] if wheel.get("url") else str(_local(directory, place))
    return urls


def write_pylock(lock: Lock, path: Path, urls: Mapping[str, str] | None = None) -> None:
    """Write the lock's wheels as a pylock.toml that any installer of PEP 751 reads.

    Args:
        urls: URLs by sha256 to write down. Without them the file names no host, and its wheels are expected in a
            folder `wheels` beside it.

    Raises: `StorageError`.
    """
    content = render_pylock(lock, urls or {})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            temporary.write_text(content, "utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"Could not write {path}: {error.strerror}.") from error


def render_pylock(lock: Lock, urls: Mapping[str, str]) -> str:
    """The text of a pylock.toml; validated against the specification."""
    import tomli_w
    from packaging.markers import Marker
    from packaging.pylock import Package, PackageWheel, Pylock
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    machine = lock.target.machine
    packages = [
        Package(
            name=canonicalize_name(wheel.name),
            version=Version(wheel.version),
            wheels=[
                PackageWheel(
                    name=wheel.file,
                    url=urls.get(wheel.sha256),
                    path=None if wheel.sha256 in urls else f"{WHEELS_FOLDER}/{wheel.file}",
                    size=wheel.size,
                    hashes={"sha256": wheel.sha256},
                )
            ],
        )
        for wheel in sorted(lock.wheels, key=lambda each: each.name)
    ]
    pylock = Pylock(
        lock_version=Version("1.0"),
        environments=[Marker(f"sys_platform == 'linux' and platform_machine == '{machine}'")],
        requires_python=SpecifierSet(f"=={lock.target.minor}.*"),
        created_by="lightship",
        packages=packages,
    )
    pylock.validate()
    return tomli_w.dumps(pylock.to_dict())


def _offer(
    package: Package, chosen: PackageWheel | PackageArchive, target: Target, directory: Path, title: str
) -> Offer:
    from packaging.pylock import PackageArchive
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    file = _file_name(chosen)
    try:
        _, version, _, tags = parse_wheel_filename(file)
    except InvalidWheelFilename as error:
        raise LockError(f"{title}: {package.name}: {file!r} is no wheel's file name.") from error
    direct = isinstance(chosen, PackageArchive)
    if direct and not tags & set(target.tags()):
        raise LockError(f"{title}: {package.name}: {file} does not fit {target}.", hint=_remedy())
    sha256 = chosen.hashes.get("sha256")
    if sha256 is None:
        raise LockError(
            f"{title}: {package.name}: {file} has no sha256, and nothing is put into an image without one.",
            hint="Write the lock again with a tool that records sha256 hashes.",
        )
    return Offer(
        name=package.name,
        version=str(package.version or version),
        file=file,
        sha256=sha256.lower(),
        url=chosen.url or str(_local(directory, chosen.path or "")),
        size=chosen.size,
        direct=direct,
    )


def _prepared(content: Mapping[str, Any], allowed: Mapping[str, frozenset[str]], title: str) -> dict[str, Any]:
    """The content with the wheels that the user's hashes allow, in an order that does not depend on the index's."""
    packages = []
    if not isinstance(content.get("packages"), list):
        return dict(content)
    for package in content["packages"]:
        if not isinstance(package, dict) or not isinstance(package.get("wheels"), list):
            packages.append(package)
            continue
        wheels = sorted((wheel for wheel in package["wheels"] if isinstance(wheel, dict)), key=_preference)
        hashes = allowed.get(str(package.get("name")))
        kept = [wheel for wheel in wheels if not hashes or str(wheel.get("hashes", {}).get("sha256")) in hashes]
        if wheels and not kept and "sdist" not in package:
            raise LockError(
                f"{title}: {package.get('name')} {package.get('version')}: no wheel that fits the image has one of "
                "the hashes that the requirements allow.",
                hint="Write the hashes again for Linux, with all files of the version "
                "(`uv pip compile --generate-hashes`).",
            )
        packages.append({**package, "wheels": kept})
    return {**content, "packages": packages}


def _preference(wheel: Mapping[str, Any]) -> tuple[int, str]:
    """Among wheels with equal tags the higher build number (PEP 427), then the name: a choice that is stable."""
    name = str(wheel.get("name") or wheel.get("path") or wheel.get("url") or "").rpartition("/")[2]
    parts = name.split("-")
    digits = ""
    if len(parts) == 6:
        digits = parts[2][: len(parts[2]) - len(parts[2].lstrip("0123456789"))]
    return -int(digits or 0), name


def _file_name(chosen: PackageWheel | PackageArchive) -> str:
    if name := getattr(chosen, "name", None):
        return str(name)
    return (chosen.path or unquote(urlsplit(chosen.url or "").path)).replace("\\", "/").rpartition("/")[2]


def _local(directory: Path, path: str) -> Path:
    return Path(os.path.normpath(directory / path))


def _remedy() -> str:
    from lightship.lock.uv import WHEELS_REMEDY

    return WHEELS_REMEDY
