"""Small packages as source: with a build backend of their own, so that a build needs nothing from any index."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

BACKEND = """
import base64, hashlib, os, time, zipfile

def build_wheel(directory, settings=None, metadata=None):
    {during}
    metadata = "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{requires}"
    info = "{module}-{version}.dist-info"
    files = {{
        "{module}/__init__.py": open("{module}.py").read(),
        info + "/METADATA": metadata,
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    hashed = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    record = "".join(f"{{path}},sha256={{hashed(text)}},{{len(text.encode())}}\\n" for path, text in files.items())
    files[info + "/RECORD"] = record + info + "/RECORD,,\\n"
    file = "{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, file), "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, time.localtime()[:6]), text)
    return file
"""


def package_files(
    name: str,
    version: str = "1.0",
    *,
    code: str = "VALUE = 1\n",
    during: str = "pass",
    requires: Sequence[str] = (),
    build_requires: Sequence[str] = (),
) -> dict[str, str]:
    """A package; `during` is what its backend does besides building."""
    lines = "".join(f"Requires-Dist: {each}\\n" for each in requires)
    module = name.replace("-", "_")
    backend = BACKEND.format(name=name, module=module, version=version, during=during, requires=lines)
    system = (
        f'[build-system]\nrequires = {list(build_requires)!r}\nbuild-backend = "own"\nbackend-path = ["_build"]\n'
    )
    return {"pyproject.toml": system, "_build/own.py": backend, f"{module}.py": code}


def write_package(folder: Path, files: Mapping[str, str]) -> Path:
    """A package as a folder."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def write_sdist(folder: Path, name: str, files: Mapping[str, str], version: str = "1.0") -> Path:
    """A package as an sdist that says nothing of its requirements: whoever wants to know them has to run it."""
    told = {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in {**told, **files}.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def commit(folder: Path, message: str = "a commit") -> str:
    """Commit all that is in a folder, which becomes a repository; the commit's hash."""
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", message]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()
