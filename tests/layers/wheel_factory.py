"""Wheels made in the test: small, complete, and broken on request."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lightship.cache import file_digest
from lightship.layers.installed_wheel import WheelSource

WHEEL = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
TIME = (1980, 1, 1, 0, 0, 0)


def make_wheel(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    files: Mapping[str, bytes] | None = None,
    *,
    metadata: Mapping[str, bytes] | None = None,
    executable: tuple[str, ...] = (),
    recorded: Mapping[str, str] | None = None,
) -> Path:
    """A wheel with `files`; `metadata` are further files of .dist-info; `recorded` are false hashes for RECORD."""
    info = f"{name}-{version}.dist-info"
    contents = dict(files if files is not None else {f"{name}/__init__.py": b"x = 1\n"})
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    contents[f"{info}/WHEEL"] = WHEEL
    contents.update({f"{info}/{path}": content for path, content in (metadata or {}).items()})
    rows = [
        f"{path},{(recorded or {}).get(path) or digest(content)},{len(content)}" for path, content in contents.items()
    ]
    contents[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in contents.items():
            entry = zipfile.ZipInfo(member, TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if member in executable else 0o100644) << 16
            archive.writestr(entry, content)
    return path


def digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def source_of(path: Path) -> WheelSource:
    name, version = path.name.split("-")[:2]
    sha256 = file_digest(path).removeprefix("sha256:")
    return WheelSource(name.replace("_", "-").lower(), version, path.name, sha256, path.stat().st_size, lambda: path)
