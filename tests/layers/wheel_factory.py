"""Wheels made in the test: small, complete, and broken on request."""

from __future__ import annotations

import base64
import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import deflate

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
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in contents.items():
            entry = zipfile.ZipInfo(member, TIME)
            entry.external_attr = (0o100755 if member in executable else 0o100644) << 16
            add_deflated(archive, entry, content)
    return path


def add_deflated(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, content: bytes) -> None:
    """Add a compressed member that is the same on every machine, unlike what zipfile and the machine's zlib make."""
    archive.writestr(entry, bytes(deflate.deflate_compress(content, 6)))
    entry.compress_type, entry.file_size, entry.CRC = zipfile.ZIP_DEFLATED, len(content), zlib.crc32(content)
    assert archive.fp
    after = archive.fp.tell()
    archive.fp.seek(entry.header_offset)
    archive.fp.write(entry.FileHeader(zip64=False))
    archive.fp.seek(after)


def digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def source_of(path: Path) -> WheelSource:
    name, version = path.name.split("-")[:2]
    sha256 = file_digest(path).removeprefix("sha256:")
    return WheelSource(name.replace("_", "-").lower(), version, path.name, sha256, path.stat().st_size, lambda: path)
