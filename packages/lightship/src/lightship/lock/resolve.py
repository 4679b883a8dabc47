"""From requirements to exactly one wheel per package, for the image's Python and platform."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightship.lock.amend import amended
from lightship.lock.file import LockedWheel
from lightship.lock.index import index_configuration, index_options
from lightship.lock.offers import Offer, locked_wheels
from lightship.lock.pylock import select_offers
from lightship.lock.requirements import RequirementsSource, check_supported, pins, read_toml
from lightship.lock.target import Target
from lightship.lock.uv import Uv, UvError, explain
from lightship.session import Session


def resolve(
    source: RequirementsSource,
    extra: Sequence[str],
    target: Target,
    session: Session,
    *,
    preferences: Sequence[LockedWheel] = (),
) -> tuple[LockedWheel, ...]:
    """The wheels of the image.

    Args:
        extra: Requirements (PEP 508) on top of the user's, such as those of the runtime.
        preferences: The wheels of the lock so far. Their versions are kept where the requirements allow; without
            them everything moves to its newest version.

    Raises: `LockError` where no set of wheels fits, `ProjectError` where the requirements cannot be read,
        `NetworkError` where the index cannot be reached.
    """
    check_supported(source)
    index = index_configuration(session.environ, source, source.directory)
    try:
        with session.progress.task(f"Resolving {source.title}"):
            uv = Uv(session, index, source.directory)
            if preferences and (wheels := amended(preferences, source, extra, target, session, index, uv)):
                return wheels
            offers = _offers(source, extra, target, uv, preferences)
    except UvError as error:
        what = source.title if not extra else f"{source.title} together with {', '.join(extra)}"
        raise explain(error, what, offline=session.offline) from error
    return locked_wheels(offers, replace(session, environ=index.environ), index)


def pinned_wheels(source: RequirementsSource, target: Target, session: Session) -> tuple[LockedWheel, ...]:
    """The wheels of the versions that the requirements fix, without resolving; none where nothing is fixed.

    Raises: as `resolve`.
    """
    found = {} if source.is_locked else pins(source)
    if not found or any(line.name in found and line.direct_reference for line in source.lines):
        return ()
    index = index_configuration(session.environ, source, source.directory)
    uv = Uv(session, index, source.directory)
    lines = [line.text for line in index_options(source)] + [f"{name}=={version}" for name, version in found.items()]
    try:
        content, folder = uv.compile(lines, [], target, no_deps=True)
    except UvError as error:
        raise explain(error, source.title, offline=session.offline) from error
    offers = select_offers(content, target, folder, source.title, source.hashes)
    return locked_wheels(offers, replace(session, environ=index.environ), index)


def locked_content(source: RequirementsSource, uv: Uv) -> tuple[dict[str, Any], Path]:
    """A lock of another tool as the content of a pylock.toml, and the folder that its paths are relative to."""
    if source.kind == "uv.lock":
        return uv.export(source.path)
    return read_toml(source.path), source.directory


def _offers(
    source: RequirementsSource, extra: Sequence[str], target: Target, uv: Uv, preferences: Sequence[LockedWheel]
) -> Iterable[Offer]:
    if source.is_locked:
        content, folder = locked_content(source, uv)
        locked = select_offers(content, target, folder, source.title)
        missing = [text for text in extra if not _met(text, locked, target)]
        return _completed(locked, missing, source, target, uv) if missing else locked
    lines, files = list(extra), [source.path]
    if source.kind == "list":
        lines, files = [*source.requirements, *extra], []
    if not lines and not files:
        return ()
    content, folder = _compiled(lines, files, target, uv, preferences)
    return select_offers(content, target, folder, source.title, source.hashes)


def _compiled(
    lines: Sequence[str], files: Sequence[Path], target: Target, uv: Uv, preferences: Sequence[LockedWheel]
) -> tuple[dict[str, Any], Path]:
    """What uv resolves, once more without the preferences that it fails over.

    A preferred version is looked for in one index only, though another may have the wheel for this platform, and a
    version that was locked for another platform may have no wheel for this one.
    """
    while True:
        try:
            return uv.compile(lines, files, target, preferences=preferences)
        except UvError as error:
            blamed = set(re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", str(error).lower()))
            kept = [wheel for wheel in preferences if wheel.name not in blamed]
            if len(kept) == len(preferences):
                raise
            preferences = kept


def _completed(
    locked: Iterable[Offer], missing: Sequence[str], source: RequirementsSource, target: Target, uv: Uv
) -> Iterable[Offer]:
    """What is locked, exactly as it is, with what is missing resolved around it."""
    lines = [*(line.text for line in index_options(source)), *(offer.requirement for offer in locked), *missing]
    content, folder = uv.compile(lines, [], target)
    added = {offer.name: offer for offer in select_offers(content, target, folder, source.title)}
    return (added | {offer.name: offer for offer in locked}).values()


def _met(text: str, locked: Iterable[Offer], target: Target) -> bool:
    """Whether the locked wheels already hold what a requirement asks for."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    requirement = Requirement(text)
    if requirement.marker and not requirement.marker.evaluate(dict(target.markers())):
        return True
    versions = {offer.name: offer.version for offer in locked}
    version = versions.get(canonicalize_name(requirement.name))
    if version is None or requirement.extras or requirement.url:
        return False
    return requirement.specifier.contains(version, prereleases=True)
