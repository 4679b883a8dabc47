"""From requirements to exactly one wheel per package, for the image's Python and platform."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lightship.lock.build_inputs import Builder, BuiltWheels, input_of, locked_content, resolve_building
from lightship.lock.file import LockedWheel
from lightship.lock.index import index_configuration, index_options
from lightship.lock.offers import Offer, locked_wheels
from lightship.lock.pylock import select_offers
from lightship.lock.requirements import RequirementsSource, check_supported, pins
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
    builder: Builder | None = None,
    without: Sequence[str] = (),
) -> tuple[LockedWheel, ...]:
    """The wheels of the image.

    Args:
        extra: Requirements (PEP 508) on top of the user's, such as those of the runtime.
        preferences: The wheels of the lock so far. Their versions are kept where the requirements allow; without
            them everything moves to its newest version.
        builder: For what nobody offers as a wheel; without one such requirements are refused.
        without: Packages that are left out although others require them.

    Raises: `LockError` where no set of wheels fits, `ProjectError` where the requirements cannot be read,
        `NetworkError` where the index cannot be reached; and what the builder raises.
    """
    from lightship.lock.amend import amended

    if builder is None:
        check_supported(source)
    index = index_configuration(session.environ, source, source.directory)
    with session.cache.temporary_directory() as folder:
        links = BuiltWheels(folder.resolve(), session.cache, builder)
        try:
            with session.progress.task(f"Resolving {source.title}"):
                uv = Uv(session, index, source.directory, tuple(without))
                if preferences and (wheels := amended(preferences, source, extra, target, session, index, uv)):
                    return wheels
                offers = _offers(source, extra, target, uv, preferences, links)
        except UvError as error:
            what = source.title if not extra else f"{source.title} together with {', '.join(extra)}"
            raise explain(error, what, offline=session.offline) from error
        built = [links.wheels[offer.sha256] for offer in offers if offer.sha256 in links.wheels]
        found = [offer for offer in offers if offer.sha256 not in links.wheels]
        locked = locked_wheels(found, replace(session, environ=index.environ), index)
    return tuple(sorted([*locked, *built], key=lambda wheel: wheel.name))


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


def _offers(
    source: RequirementsSource,
    extra: Sequence[str],
    target: Target,
    uv: Uv,
    preferences: Sequence[LockedWheel],
    links: BuiltWheels,
) -> Sequence[Offer]:
    from lightship.lock.pylock import select_packages

    if source.is_locked:
        content, folder = locked_content(source, uv)
        locked = [links.offer(each) for each in select_packages(content, target, folder, source.title)]
        missing = [text for text in extra if not _met(text, locked, target)]
        return _completed(locked, missing, source, target, uv, links) if missing else locked
    with input_of(source, uv, target, links) as given:
        if not given.lines and not given.files and not extra:
            return ()
        lines = [*extra, *given.lines] if source.kind != "list" else [*given.lines, *extra]
        return resolve_building(
            lines, given.files, target, uv, links, source, constraints=given.constraints, preferences=preferences
        )


def _completed(
    locked: Iterable[Offer],
    missing: Sequence[str],
    source: RequirementsSource,
    target: Target,
    uv: Uv,
    links: BuiltWheels,
) -> Sequence[Offer]:
    """What is locked, exactly as it is, with what is missing resolved around it."""
    lines = [*(line.text for line in index_options(source)), *(offer.requirement for offer in locked), *missing]
    added = {offer.name: offer for offer in resolve_building(lines, [], target, uv, links, source)}
    return tuple((added | {offer.name: offer for offer in locked}).values())


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
