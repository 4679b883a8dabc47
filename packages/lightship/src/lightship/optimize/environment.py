"""What converts a model: the user's own requirements, as the image would have them, and the converters."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence

from lightship.layers.runtime import runtime_requirements
from lightship.lock import Builder, LockedConversion, LockedWheel, RequirementsSource, Target, fetch_wheels, resolve
from lightship.session import Session


def lock_converters(
    source: RequirementsSource,
    converters: Sequence[str],
    target: Target,
    session: Session,
    *,
    preferences: Sequence[LockedWheel],
    builder: Builder,
) -> tuple[tuple[LockedWheel, ...], tuple[LockedWheel, ...]]:
    """The wheels that the image would have without the conversion, and those of the environment to convert in.

    Raises: as `resolve`.
    """
    runtime = runtime_requirements()
    before = resolve(source, runtime, target, session, preferences=preferences, builder=builder)
    wanted = (*runtime, *converters)
    return before, resolve(source, wanted, target, session, preferences=before, builder=builder)


def locked_conversion(
    before: Sequence[LockedWheel],
    converters: Sequence[LockedWheel],
    after: Sequence[LockedWheel],
    source: RequirementsSource,
    target: Target,
    session: Session,
) -> LockedConversion:
    """The conversion as it stands in the lock, with what it saves: wheels are fetched to see how large they unpack.

    Raises: as `fetch_wheels`.
    """
    old, new = ({wheel.sha256: wheel for wheel in wheels} for wheels in (before, after))
    dropped = [wheel for sha256, wheel in old.items() if sha256 not in new]
    added = [wheel for sha256, wheel in new.items() if sha256 not in old]
    changed = [wheel for wheel in (*dropped, *added) if wheel.source is None]
    fetch_wheels(changed, session, target, source=source, directory=source.directory)
    return LockedConversion(
        wheels=tuple(converters),
        dropped={wheel.name: (wheel.size, _unpacked(wheel, session)) for wheel in dropped},
        added={wheel.name: (wheel.size, _unpacked(wheel, session)) for wheel in added},
    )


def pins_of(wheels: Sequence[LockedWheel], names: Sequence[str]) -> tuple[str, ...]:
    """The named ones as requirements: the image gets what the converted model was compared with."""
    return tuple(f"{wheel.name}=={wheel.version}" for wheel in wheels if wheel.name in names)


def _unpacked(wheel: LockedWheel, session: Session) -> int:
    with zipfile.ZipFile(session.cache.blob_path(f"sha256:{wheel.sha256}")) as archive:
        return sum(member.file_size for member in archive.infolist())
