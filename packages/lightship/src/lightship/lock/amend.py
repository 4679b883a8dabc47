"""A lock whose pins were changed, without a resolver: kept if it is still a solution, with the new pins in it.

To move one pinned package, a resolver asks an index about every package there is. What it would find, where all other
versions are to stay, can be checked instead: from the requirements on, through the metadata of the wheels that are
locked (which are here) and of the new ones (which are needed anyway), everything must be met by what is locked. Then
that is a solution, and the one with the fewest changes. Whatever cannot be checked so is left to the resolver.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from lightship.cache import Cache
from lightship.download import download_all
from lightship.errors import LightshipError
from lightship.lock.file import LockedWheel
from lightship.lock.index import IndexConfiguration, index_options
from lightship.lock.offers import locked_wheels
from lightship.lock.requirements import RequirementsSource, read_toml
from lightship.lock.requirements_file import normalised
from lightship.lock.target import Target
from lightship.lock.uv import Uv, UvError
from lightship.session import Session

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

MOST_CHANGES = 8  # packages; whoever changes more wants a resolver, and loses little by it
_MAX_METADATA = 4 << 20  # bytes; descriptions are in there too
_RECORDS = "wheel-requirements"


def amended(
    locked: Sequence[LockedWheel],
    source: RequirementsSource,
    extra: Sequence[str],
    target: Target,
    session: Session,
    index: IndexConfiguration,
    uv: Uv,
) -> tuple[LockedWheel, ...] | None:
    """What is locked, with changed pins in place of the old ones; None where only a resolver can tell.

    Args:
        extra: Requirements on top of the source's.
    """
    roots = _roots(source, extra)
    if roots is None or not _fit(locked, target, source):
        return None
    work = _Amendment({wheel.name: wheel for wheel in locked}, target, session.cache, uv.without)
    pins = work.changed_pins(roots)
    if pins is None or len(pins) > MOST_CHANGES:
        return None
    try:
        if pins:
            work.take(_offered(pins, source, target, session, index, uv))
        names = work.reached([each.requirement for each in roots if not each.constraint])
    except (LightshipError, UvError):
        return None  # the resolver will meet it too, and says it better
    if names is None or not all(work.meets(each.requirement) for each in roots if each.constraint):
        return None
    return tuple(work.wheels[name] for name in sorted(names))


@dataclass(frozen=True)
class _Root:
    requirement: Requirement
    constraint: bool = False


def _roots(source: RequirementsSource, extra: Sequence[str]) -> list[_Root] | None:
    """The requirements to start from; None where there is one that is more than a name and versions."""
    from packaging.requirements import InvalidRequirement, Requirement

    if source.is_locked or (source.kind == "pyproject" and read_toml(source.path).get("tool", {}).get("uv")):
        return None
    roots = []
    try:
        for line in source.lines:
            if line.is_option:
                continue
            if line.name is None or line.direct_reference is not None or "$" in line.text:
                return None
            roots.append(_Root(Requirement(line.text.partition(" --")[0]), line.constraint))
        roots += [_Root(Requirement(text)) for text in extra]
    except InvalidRequirement:
        return None
    return roots


def _fit(locked: Sequence[LockedWheel], target: Target, source: RequirementsSource) -> bool:
    """Whether every locked wheel is one for the target, with a hash that the requirements allow."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    supported = set(target.tags())
    allowed = source.hashes
    try:
        return all(
            parse_wheel_filename(wheel.file)[3] & supported
            and wheel.sha256 in allowed.get(wheel.name, {wheel.sha256})
            for wheel in locked
        )
    except InvalidWheelFilename:
        return False


def _offered(
    pins: Mapping[str, str],
    source: RequirementsSource,
    target: Target,
    session: Session,
    index: IndexConfiguration,
    uv: Uv,
) -> tuple[LockedWheel, ...]:
    """The wheels of the new pins, downloaded: their metadata is wanted now and their files by the build."""
    from lightship.lock.pylock import select_offers

    lines = [line.text for line in index_options(source)] + [f"{name}=={version}" for name, version in pins.items()]
    content, folder = uv.compile(lines, [], target, no_deps=True)
    offers = select_offers(content, target, folder, source.title, source.hashes)
    of_index = replace(session, environ=index.environ)
    download_all([offer.download for offer in offers], of_index, title="changed pins", credentials=index.credentials)
    return locked_wheels(offers, of_index, index)


class _Amendment:
    def __init__(self, wheels: dict[str, LockedWheel], target: Target, cache: Cache, without: Sequence[str]) -> None:
        self.wheels = wheels
        self._without = frozenset(map(normalised, without))
        self._cache = cache
        self._markers = target.markers()

    def take(self, wheels: Sequence[LockedWheel]) -> None:
        self.wheels |= {wheel.name: wheel for wheel in wheels}

    def changed_pins(self, roots: Sequence[_Root]) -> dict[str, str] | None:
        """The requirements that the lock does not meet, which must be exact versions."""
        pins: dict[str, str] = {}
        for root in roots:
            if root.constraint or not self._applies(root.requirement, "") or self.meets(root.requirement):
                continue
            exact = [each for each in root.requirement.specifier if each.operator == "==" and "*" not in each.version]
            if len(exact) != 1 or len(root.requirement.specifier) != 1:
                return None
            pins[_name(root.requirement)] = exact[0].version
        return pins

    def meets(self, requirement: Requirement) -> bool:
        """Whether what is locked under the requirement's name is of a version that it allows."""
        wheel = self.wheels.get(_name(requirement))
        return wheel is not None and requirement.specifier.contains(wheel.version, prereleases=True)

    def reached(self, requirements: Sequence[Requirement]) -> set[str] | None:
        """Every package that the requirements lead to; None where one of them is not met, or not known."""
        pending = [(each, "") for each in requirements]
        done: set[tuple[str, str]] = set()
        names: set[str] = set()
        while pending:
            requirement, extra = pending.pop()
            if not self._applies(requirement, extra):
                continue
            if requirement.url or not self.meets(requirement):
                return None
            name = _name(requirement)
            names.add(name)
            for wanted in ("", *requirement.extras):
                if (name, wanted) in done:
                    continue
                done.add((name, wanted))
                needed = self._requirements(self.wheels[name])
                if needed is None:
                    return None
                pending += [(each, wanted) for each in needed]
        return names

    def _applies(self, requirement: Requirement, extra: str) -> bool:
        if _name(requirement) in self._without:
            return False
        return requirement.marker is None or requirement.marker.evaluate({**self._markers, "extra": extra})

    def _requirements(self, wheel: LockedWheel) -> list[Requirement] | None:
        """What a wheel's metadata requires; None where the wheel is not here."""
        from packaging.requirements import InvalidRequirement, Requirement

        record = self._cache.read_record(_RECORDS, wheel.sha256)
        if record is None:
            path = self._cache.blob_path(f"sha256:{wheel.sha256}")
            try:
                record = {"requires": list(_requires(path, wheel.file))}
            except (OSError, KeyError, ValueError, zipfile.BadZipFile, NotImplementedError):
                return None
            self._cache.write_record(_RECORDS, wheel.sha256, record)
        try:
            return [Requirement(text) for text in record["requires"]]
        except InvalidRequirement:
            return None


def _requires(path: object, file: str) -> Iterator[str]:
    """The Requires-Dist fields of a wheel's METADATA."""
    with zipfile.ZipFile(str(path)) as archive:
        name, version = file.split("-")[:2]
        with archive.open(f"{name}-{version}.dist-info/METADATA") as member:
            content = member.read(_MAX_METADATA + 1)
    if len(content) > _MAX_METADATA:
        raise ValueError("more metadata than is reasonable")
    fields = HeaderParser().parsestr(content.decode("utf-8", "replace"), headersonly=True)
    yield from fields.get_all("Requires-Dist", ())


def _name(requirement: Requirement) -> NormalizedName:
    from packaging.utils import canonicalize_name

    return canonicalize_name(requirement.name)
