"""A package index (PEP 503, PEP 691) on loopback, and small wheels to put into it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from loopback_server import LoopbackServer

from lightship.lock.requirements_file import normalised


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    build: str = "",
    requires_python: str | None = None,
) -> Path:
    """A small, valid wheel; the same arguments give the same bytes."""
    module = normalised(name).replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {each}" for each in requires]
    if requires_python:
        metadata.append(f"Requires-Python: {requires_python}")
    wheel = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    files = {
        f"{module}/__init__.py": f'__version__ = "{version}"\nTAG = "{tag}{build}"\n',
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": wheel,
    }
    record = "".join(f"{path},sha256={_record_hash(content)},{len(content)}\n" for path, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    path = folder / "-".join(filter(None, (module, version, build, tag)))
    path = path.with_name(path.name + ".whl")
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in files.items():
            archive.writestr(zipfile.ZipInfo(each), content)
    return path


def make_sdist(folder: Path, name: str, version: str = "1.0") -> Path:
    """A source distribution that nobody should ever build."""
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in (
            ("PKG-INFO", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"),
            ("setup.py", "raise SystemExit('this was run')\n"),
        ):
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class PackageIndex(LoopbackServer):
    """Serves every wheel and sdist in `folder` at /simple/, each file at /files/."""

    def __init__(self, folder: Path, *, sizes: bool = True) -> None:
        super().__init__()
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.sizes = sizes
        self.pages = self._page

    @property
    def simple(self) -> str:
        return f"{self.url}/simple"

    def wheel(self, name: str, version: str = "1.0", **options: object) -> Path:
        return make_wheel(self.folder, name, version, **options)  # type: ignore[arg-type]

    def sdist(self, name: str, version: str = "1.0") -> Path:
        return make_sdist(self.folder, name, version)

    def forget_requests(self) -> None:
        self.requests.clear()

    def _page(self, path: str) -> tuple[str, bytes] | None:
        if path.startswith("/files/"):
            file = self.folder / path.removeprefix("/files/")
            return ("application/octet-stream", file.read_bytes()) if file.is_file() else None
        if not path.startswith("/simple/"):
            return None
        name = path.removeprefix("/simple/").strip("/")
        found = sorted(file for file in self.folder.iterdir() if normalised(file.name.split("-")[0]) == name)
        if not found:
            return None
        files = [
            {
                "filename": file.name,
                "url": f"../../files/{file.name}",
                "hashes": {"sha256": sha256_of(file)},
                **({"size": file.stat().st_size} if self.sizes else {}),
            }
            for file in found
        ]
        page = {"meta": {"api-version": "1.1"}, "name": name, "files": files}
        return "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()


def _record_hash(content: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
