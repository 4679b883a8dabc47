"""One version of a package, offered by several indexes: the best of all their wheels is to be had, as with pip.

uv takes the version from the first index that has it and names the wheels of that index only, even where it is told
to look for the best match. A pure wheel on the first index would so be taken where a second one has the wheel for the
platform. So it is asked again for the versions that it chose, with each of the indexes first in turn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def pins(content: Mapping[str, Any]) -> list[str]:
    """The requirements that stand for what a pylock.toml has of indexes."""
    return [f"{each['name']}=={each['version']}" for each in _of_indexes(content)]


def with_wheels(content: Mapping[str, Any], others: Sequence[tuple[Mapping[str, Any], Path]]) -> dict[str, Any]:
    """A pylock.toml with the wheels that others name for the same versions.

    Args:
        others: Contents, each with the folder that its paths are relative to.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for other, folder in others:
        for package in _of_indexes(other):
            wheels = found.setdefault((package["name"], package["version"]), [])
            wheels += [_placed(wheel, folder) for wheel in package["wheels"]]
    packages = []
    for package in content.get("packages", []):
        known = {_sha256(wheel) for wheel in package.get("wheels", [])}
        more = {_sha256(wheel): wheel for wheel in found.get((package["name"], package.get("version", "")), [])}
        added = [wheel for sha256, wheel in more.items() if sha256 is not None and sha256 not in known]
        packages.append({**package, "wheels": [*package["wheels"], *added]} if added and known else package)
    return {**content, "packages": packages}


def _of_indexes(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for each in content.get("packages", []) if each.get("wheels") and "version" in each]


def _sha256(wheel: Mapping[str, Any]) -> str | None:
    sha256 = wheel.get("hashes", {}).get("sha256")
    return sha256 if isinstance(sha256, str) else None


def _placed(wheel: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A wheel's entry that holds wherever it stands."""
    return {**wheel, "path": os.path.normpath(folder / wheel["path"])} if "path" in wheel else wheel
