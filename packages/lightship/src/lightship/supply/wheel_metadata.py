"""The METADATA of every wheel of an image: from the wheel where the cache has it, else from the image's layers.

A layer holds a wheel's METADATA as it is, so both say the same; an index need not be asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightship.errors import IntegrityError
from lightship.layers.wheel_archive import WheelArchive
from lightship.lock import LockedWheel
from lightship.oci import Image
from lightship.session import Session
from lightship.supply.image_files import read_image_files
from lightship.supply.licence import Licence
from lightship.supply.wheel_licence import MOST_HEADER, wheel_licence

_LARGEST = 64 << 20  # bytes of a METADATA that is unpacked at all
_LAYERS = ("wheel", "wheels")


def wheel_licences(wheels: Sequence[LockedWheel], image: Image, session: Session) -> dict[str, Licence]:
    """The licence of each wheel, by its sha256.

    Raises: `IntegrityError` where a wheel is damaged, or neither it nor its layer is in the cache.
    """
    licences: dict[str, Licence] = {}
    missing = []
    for wheel in wheels:
        if session.cache.has_blob(f"sha256:{wheel.sha256}", wheel.size):
            path = session.cache.blob_path(f"sha256:{wheel.sha256}")
            licences[wheel.sha256] = wheel_licence(_metadata(path, wheel.file))
        else:
            missing.append(wheel)
    if missing:
        files = read_image_files((layer for layer in image.layers if layer.kind in _LAYERS), session.cache)
        found = {_distribution(path): content for path, content in files.contents.items()}
        for wheel in missing:
            content = found.get((wheel.name, _normalised_version(wheel.version)))
            if content is None:
                raise IntegrityError(f"The image has no METADATA of {wheel}.", hint="Build again.")
            licences[wheel.sha256] = wheel_licence(content)
    return licences


def _metadata(path: Path, title: str) -> bytes:
    """The beginning of a wheel's METADATA; all of it is read, because its hash is checked at the end."""
    with WheelArchive(path, title) as archive:
        member = archive.members.get(f"{archive.dist_info}/METADATA")
        if member is None or member.size > _LARGEST:
            return b""
        header = bytearray()
        for piece in archive.pieces(member):
            header += piece[: MOST_HEADER - len(header)]
        return bytes(header)


def _distribution(path: str) -> tuple[str, str]:
    """Name and version that a path of METADATA tells, in their normal forms."""
    from packaging.utils import canonicalize_name

    folder = path.split("/")[-2].removesuffix(".dist-info")
    name, _, version = folder.partition("-")
    return canonicalize_name(name), _normalised_version(version)


def _normalised_version(version: str) -> str:
    from packaging.utils import canonicalize_version

    return canonicalize_version(version, strip_trailing_zero=True)
