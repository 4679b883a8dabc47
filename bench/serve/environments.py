"""The peers' environments: one for each, from its pinned requirements, made once and kept.

Beside a peer's `requirements.txt` can be `sources.txt`: those of its requirements that come without wheels. They are
built for this machine's processor, as pip does it for whoever installs them, and their wheels are kept, too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.apps import ROOT

PEERS = Path(__file__).parent / "peers"
_PIP = "pip==26.3"  # builds wheels, and is in no environment
_TEXTBOOK = ROOT / "examples" / "iris-fastapi" / "requirements.txt"


def environment(name: str, cache: Path, peers: Path = PEERS) -> Path:
    """The Python of the environment `name`; all bytecode is compiled, so that every server starts equally warm."""
    requirements = _TEXTBOOK if name == "fastapi" else peers / name / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    place = cache / name
    python, mark = place / "bin" / "python", place / "complete"
    if mark.is_file() and mark.read_text() == digest:
        return python
    print(f"installing {name}", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    if "PIP_FIND_LINKS" in environ:
        environ.setdefault("UV_FIND_LINKS", environ["PIP_FIND_LINKS"])
    sources, wheels = requirements.with_name("sources.txt"), cache / "wheels"
    if sources.is_file():
        _build(sources.read_text().split(), wheels, environ)
        environ["UV_FIND_LINKS"] = ",".join(filter(None, (environ.get("UV_FIND_LINKS"), str(wheels))))
    uv = find_uv()
    for command in (
        [uv, "venv", "-q", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(python), "-r", str(requirements)],
    ):
        subprocess.run(command, check=True, env=environ)
    mark.write_text(digest)
    return python


def _build(requirements: Sequence[str], wheels: Path, environ: Mapping[str, str]) -> None:
    """The wheels of `requirements` that are not there yet, which needs a compiler."""
    for requirement in requirements:
        project, _, version = requirement.partition("==")
        if any(wheels.glob(f"{project.replace('-', '_')}-{version}-*.whl")):
            continue
        print(f"building {requirement}, which takes minutes", file=sys.stderr, flush=True)
        pip = [find_uv(), "tool", "run", "-q", "--python", sys.executable, "--from", _PIP, "pip"]
        options = ["-q", "--no-deps", "--wheel-dir", str(wheels)]
        subprocess.run([*pip, "wheel", *options, requirement], check=True, env=environ)


def find_uv() -> str:
    """The uv beside this Python, or the one on PATH."""
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        raise SystemExit("uv is neither on PATH nor beside Python: run `make dev`")
    return found
