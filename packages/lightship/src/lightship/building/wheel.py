"""What a build backend made, taken over: checked, and written anew so that equal contents are equal wheels.

Backends differ in what they leave to chance: the order of entries, times, modes, the compressor. All of that is
fixed here; the files themselves stay as they are, so RECORD stays right. Everything in the sandbox is gone when this
runs, yet nothing that it left is believed: names, kinds, sizes.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lightship.building.failure import SourceBuildError
from lightship.building.leavings import open_left
from lightship.cache import CHUNK, Cache
from lightship.lock.file import LockedWheel
from lightship.lock.requirements_file import normalised
from lightship.lock.target import Target

_FILES = 100_000
_TOTAL = 8 << 30  # bytes unpacked
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip


@dataclass(frozen=True)
class Expected:
    """What the wheel has to be of: name and version where they are known, and where it has to run."""

    title: str
    target: Target
    name: str | None
    version: str | None


def take_wheel(work: Path, file: str, expected: Expected, cache: Cache) -> LockedWheel:
    """Bring the wheel `out/FILE` of a sandbox's folder into the cache.

    Raises: `SourceBuildError` where there is none, or not the one that was to be built.
    """
    name, version = _checked_name(file, expected)
    with open_left(work / "out", file, expected.title) as source, cache.temporary_file() as path:
        try:
            with zipfile.ZipFile(source) as archive, path.open("wb") as target:
                _rewrite(archive, target, expected.title)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError) as error:
            raise SourceBuildError(f"{expected.title}: what was built is no wheel: {error}.") from error
        with cache.new_blob() as blob, path.open("rb") as written:
            while piece := written.read(CHUNK):
                blob.write(piece)
    return LockedWheel(name, version, file, blob.size, blob.digest.removeprefix("sha256:"))


def _checked_name(file: str, expected: Expected) -> tuple[str, str]:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import Version

    try:
        name, version, _, tags = parse_wheel_filename(file)
    except InvalidWheelFilename as error:
        raise SourceBuildError(f"{expected.title}: the build's result {file[:200]!r} is no wheel.") from error
    if expected.name and normalised(name) != expected.name:
        raise SourceBuildError(
            f"{expected.title}: asked for {expected.name}, but what was built is {name}.",
            hint=f"Write the package's own name: {name}.",
        )
    if expected.version and version != Version(expected.version):
        raise SourceBuildError(f"{expected.title}: expected version {expected.version}, what was built is {version}.")
    if not tags & set(expected.target.tags()):
        raise SourceBuildError(f"{expected.title}: {file} was built, which does not fit {expected.target}.")
    return normalised(name), str(version)


def _rewrite(archive: zipfile.ZipFile, target: IO[bytes], title: str) -> None:
    listed = [each for each in archive.infolist() if not each.is_dir()]
    members = {each.filename: each for each in listed}
    if len(members) < len(listed):
        raise SourceBuildError(f"{title}: the wheel has two files of one name.")
    if len(members) > _FILES or sum(each.file_size for each in listed) > _TOTAL:
        raise SourceBuildError(f"{title}: the wheel has more files, or larger ones, than a wheel can have.")
    # Stored: the digest is in the lock, and must not depend on the machine's zlib; layers are packed anew anyway.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as written:
        # The metadata last, as wheels have it (PEP 427), everything else by name.
        for name in sorted(members, key=lambda each: (".dist-info/" in each, each)):
            member = members[name]
            entry = zipfile.ZipInfo(name, _EPOCH)  # its compress_type is ZIP_STORED
            entry.create_system = 3  # Unix, whose modes follow
            executable = (member.external_attr >> 16) & 0o111
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            large = member.file_size >= zipfile.ZIP64_LIMIT
            with archive.open(member) as source, written.open(entry, "w", force_zip64=large) as sink:
                left = member.file_size
                while piece := source.read(CHUNK):
                    left -= len(piece)
                    if left < 0:
                        raise SourceBuildError(f"{title}: {name} in the wheel is larger than it says.")
                    sink.write(piece)
