"""Resolution where some requirements are sources: their wheels are built first, and uv resolves with the wheels.

uv itself builds nothing: to know what a source needs it would run the source's build backend on this machine. What
is named by its place is built and takes its own line's place; what an index offers as source only is found out from
uv's refusal, located, built, and offered to uv in a folder, until all fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from lightship.cache import Cache, storing
from lightship.errors import LockError
from lightship.lock.file import LockedWheel
from lightship.lock.index import index_configuration, index_options
from lightship.lock.named_sources import named_sources
from lightship.lock.offers import Offer
from lightship.lock.requirements import RequirementsSource, read_toml
from lightship.lock.requirements_file import normalised
from lightship.lock.sources import Source, place_in_lock
from lightship.lock.target import Target
from lightship.lock.uv import WHEELS_REMEDY, Uv, UvError, explain, packages_without_wheels
from lightship.session import Session

MOST_ROUNDS = 100  # of resolution; each brings at least one package that has no wheel


class Builder(Protocol):
    """Makes wheels of sources."""

    def build(self, source: Source) -> LockedWheel:
        """The wheel of a source, now in the cache."""
        ...


@dataclass
class BuiltWheels:
    """The wheels that were built for one resolution, in a folder under their own names; `wheels` by sha256."""

    folder: Path
    cache: Cache
    builder: Builder | None
    wheels: dict[str, LockedWheel] = field(default_factory=dict)

    def path_of(self, source: Source) -> tuple[LockedWheel, Path]:
        """Build a source; its wheel, and the file in the folder."""
        if self.builder is None:
            raise LockError(
                f"{source.origin}: {source}: no wheel fits the image, only source that would have to be built.",
                hint=WHEELS_REMEDY,
            )
        wheel = self.builder.build(source)
        path = self.folder / wheel.file
        if not path.exists():
            with storing(path):
                path.symlink_to(self.cache.blob_path(f"sha256:{wheel.sha256}").absolute())
        self.wheels[wheel.sha256] = wheel
        return wheel, path

    def offer(self, found: Offer | Source) -> Offer:
        """An offer as it is; a source as the offer of the wheel that is built of it."""
        if isinstance(found, Offer):
            return found
        wheel, path = self.path_of(found)
        return Offer(wheel.name, wheel.version, wheel.file, wheel.sha256, str(path), wheel.size, direct=True)


@dataclass(frozen=True)
class Input:
    """What uv is given to resolve: lines for its standard input, files, and lines that only constrain."""

    lines: Sequence[str]
    files: Sequence[Path]
    constraints: Sequence[str] = ()


@contextmanager
def input_of(source: RequirementsSource, uv: Uv, target: Target, links: BuiltWheels) -> Iterator[Input]:
    """The requirements, every source among them built and in its place the wheel's path."""
    sources = named_sources(source, uv.index.environ)
    if not sources:
        as_it_is = source.kind == "list"
        yield Input(source.requirements if as_it_is else (), () if as_it_is else (source.path,))
        return
    lines: list[str] = []
    constraints: list[str] = []
    for line in source.lines:
        found = sources.get(line)
        if found is not None and not _wanted(found, target):
            continue
        text = line.text if found is None else _requirement(found, links)
        (constraints if line.constraint else lines).append(text)
    if source.kind != "pyproject":
        yield Input(lines, (), constraints)
        return
    with uv.session.cache.temporary_directory() as folder:
        path = folder.absolute() / "pyproject.toml"
        with storing(path):
            path.write_text(_pyproject(source, lines, [each.name for each in sources.values()]), "utf-8")
        yield Input((), (path,))


def locked_content(source: RequirementsSource, uv: Uv) -> tuple[dict[str, Any], Path]:
    """A lock of another tool as the content of a pylock.toml, and the folder that its paths are relative to."""
    if source.kind == "uv.lock":
        return uv.export(source.path)
    return read_toml(source.path), source.directory


def sources_of(
    wheels: Sequence[LockedWheel], source: RequirementsSource, target: Target, session: Session
) -> dict[str, Source]:
    """Where the sources of locked wheels are to be had, by the wheel's name: the lock itself names no index.

    Raises: `LockError` where a source is no longer among the requirements or on no index, `NetworkError`.
    """
    from lightship.lock.pylock import select_packages

    index = index_configuration(session.environ, source, source.directory)
    uv = Uv(session, index, source.directory)
    named = [wheel for wheel in wheels if wheel.source and wheel.source.kind != "sdist"]
    listed = [wheel for wheel in wheels if wheel.source and wheel.source.kind == "sdist"]
    found: dict[str, Source] = {}
    try:
        if source.is_locked:
            content, folder = locked_content(source, uv)
            offers = select_packages(content, target, folder, source.title)
            found = {each.name: each for each in offers if isinstance(each, Source) and each.name}
        elif named:
            asked = named_sources(source, session.environ).values()
            for wheel in named:
                assert wheel.source is not None
                match = (wheel.source.kind, wheel.source.place, wheel.source.subdirectory)
                for each in asked:
                    if (each.kind, place_in_lock(each, source.directory), each.subdirectory) == match:
                        found[wheel.name] = each
        if missing := [wheel for wheel in listed if wheel.name not in found]:
            lines = [line.text for line in index_options(source)] + [
                f"{each.name}=={each.version}" for each in missing
            ]
            names = [each.name for each in missing]
            content, folder = uv.compile(lines, [], target, no_deps=True, sdists_of=names)
            offers = select_packages(content, target, folder, source.title)
            found |= {each.name: each for each in offers if isinstance(each, Source) and each.name}
    except UvError as error:
        raise explain(error, "the sources of locked wheels", offline=session.offline) from error
    for wheel in wheels:
        if wheel.name not in found:
            raise LockError(
                f"{wheel}: what it was built of is not among the requirements any more.",
                hint="Run `lightship lock`, look at what it changes, and commit lightship.lock.",
            )
    return found


def resolve_building(
    lines: Sequence[str],
    files: Sequence[Path],
    target: Target,
    uv: Uv,
    links: BuiltWheels,
    source: RequirementsSource,
    *,
    constraints: Sequence[str] = (),
    preferences: Sequence[LockedWheel] = (),
) -> tuple[Offer, ...]:
    """Resolve; what has no wheel is built, each package in the newest version that the others allow.

    Raises: `UvError`, `LockError`, and what the builder raises.
    """
    from lightship.lock.pylock import select_offers, select_packages

    allowed = dict(source.hashes)
    pinned: dict[str, str] = {}
    for _ in range(MOST_ROUNDS):
        held = [*constraints, *(f"{name}=={version}" for name, version in pinned.items())]
        folder = links.folder if links.wheels else None
        compiled = partial(_compiled, uv, lines, files, target, preferences, constraints=held, links=folder)
        try:
            content, place = compiled()
            return select_offers(content, target, place, source.title, allowed)
        except UvError as error:
            missing = [name for name in packages_without_wheels(error) if name not in pinned]
            if links.builder is None or not missing:
                raise
        missing, content, place = _with_sdists(missing, compiled)
        found = [
            each
            for each in select_packages(content, target, place, source.title, allowed)
            if isinstance(each, Source) and each.name in missing
        ]
        if not found:
            raise LockError(f"{source.title}: {', '.join(missing)}: neither a wheel nor a source that fits {target}.")
        for each in found:
            assert each.name is not None
            if (hashes := allowed.pop(each.name, None)) and each.sha256 not in hashes:
                raise LockError(
                    f"{source.title}: {each}: the source distribution has none of the hashes that are allowed.",
                    hint="Write the hashes again (`uv pip compile --generate-hashes`).",
                )
            wheel, _ = links.path_of(each)
            pinned[wheel.name] = wheel.version
    raise LockError(f"{source.title}: more than {MOST_ROUNDS} packages have no wheel.")


def _compiled(
    uv: Uv,
    lines: Sequence[str],
    files: Sequence[Path],
    target: Target,
    preferences: Sequence[LockedWheel],
    **options: Any,
) -> tuple[dict[str, Any], Path]:
    """What uv resolves, once more without the preferences that it fails over.

    A preferred version is looked for in one index only, though another may have the wheel for this platform, and a
    version that was locked for another platform may have no wheel for this one.
    """
    while True:
        try:
            return uv.compile(lines, files, target, preferences=preferences, **options)
        except UvError as error:
            blamed = set(re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", str(error).lower()))
            kept = [wheel for wheel in preferences if wheel.name not in blamed]
            if len(kept) == len(preferences):
                raise
            preferences = kept


def _with_sdists(
    missing: Sequence[str], compiled: Callable[..., tuple[dict[str, Any], Path]]
) -> tuple[list[str], dict[str, Any], Path]:
    """Resolve with sources of the packages that have no wheels: all of them, of which uv names only some at a time.

    Of all others only wheels are looked at.
    """
    names = list(missing)
    while True:
        try:
            return names, *compiled(sdists_of=names)
        except UvError as error:
            more = [name for name in packages_without_wheels(error) if name not in names]
            if not more or len(names) > MOST_ROUNDS:
                raise
            names += more


def _requirement(source: Source, links: BuiltWheels) -> str:
    wheel, path = links.path_of(source)
    marker = f" ; {source.marker}" if source.marker else ""
    return f"{wheel.name}{source.extras} @ {path.as_uri()}{marker}"


def _wanted(source: Source, target: Target) -> bool:
    from packaging.markers import InvalidMarker, Marker

    try:
        return not source.marker or Marker(source.marker).evaluate(dict(target.markers()))
    except InvalidMarker as error:
        raise LockError(f"{source.origin}: {source.marker!r} is no marker: {error}.") from error


def _pyproject(source: RequirementsSource, lines: Sequence[str], built: Sequence[str | None]) -> str:
    """A pyproject.toml with nothing but dependencies, and those of uv's settings that say where they are."""
    import tomli_w

    settings = read_toml(source.path).get("tool", {}).get("uv", {})
    sources = {key: value for key, value in settings.get("sources", {}).items() if normalised(str(key)) not in built}
    for value in sources.values():
        if isinstance(value, dict) and isinstance(value.get("path"), str):
            value["path"] = str((source.directory / value["path"]).absolute())
    kept = {"sources": sources, **{key: settings[key] for key in ("index",) if key in settings}}
    project = {"name": "requirements", "version": "0", "dependencies": list(lines)}
    return tomli_w.dumps({"project": project, "tool": {"uv": kept}})
