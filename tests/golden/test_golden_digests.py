"""The same inputs have the digests that were published, whatever machine, user or Python makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from golden_images import DIGESTS, golden_digests, versions

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = tomllib.loads(DIGESTS.read_text())
PATHS = [ROOT / name for name in ("tests/golden", "tests/conformance", "tests/layers")]


def test_every_digest_is_the_published_one(tmp_path: Path) -> None:
    assert versions() == PUBLISHED["versions"], "a new compressor: look at the digests, then `make golden`"
    made = dict(golden_digests(tmp_path))
    assert len(made) >= 20
    assert made == PUBLISHED["digests"]


def others() -> list[str]:
    """Interpreters on this machine of other minor versions that the builder supports."""
    found = []
    for minor in range(11, 16):
        if minor == sys.version_info.minor:
            continue
        program = shutil.which(f"python3.{minor}")
        places = [program] if program else []
        # Where several versions lie side by side, as pyenv and uv have them.
        places += [str(each) for each in Path(sys.base_prefix).parent.glob(f"*3.{minor}.*/bin/python")]
        for place in places:
            done = subprocess.run([place, "-c", "import ssl, zlib"], capture_output=True, check=False)
            if done.returncode == 0:
                found.append(place)
                break
    return found


@pytest.mark.network
def test_another_minor_version_of_python_makes_the_same_bytes(tmp_path: Path) -> None:
    """The builder and its libraries, installed for another Python, run as a program of their own."""
    interpreters = others()
    if not interpreters:
        pytest.skip("there is no second minor version of Python")
    uv = Path(sys.executable).with_name("uv")
    environment = tmp_path / "venv"
    subprocess.run([uv, "venv", "-q", "-p", interpreters[-1], environment], check=True)
    packages = [ROOT / "packages" / name for name in ("lightship", "lightship-runtime")]
    constraints = ROOT / "requirements" / "run.txt"
    command = [uv, "pip", "install", "-q", "-p", environment, "-c", _without_hashes(constraints, tmp_path), *packages]
    subprocess.run(command, check=True)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS)), "PYTHONHASHSEED": "4711"}
    program = [environment / "bin" / "python", ROOT / "tests" / "golden" / "golden_images.py"]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, check=True)
    assert tomllib.loads(done.stdout) == PUBLISHED


def _without_hashes(requirements: Path, folder: Path) -> Path:
    """The pinned versions, for a Python whose wheels have other hashes."""
    lines = [line.partition(" ")[0] for line in requirements.read_text().splitlines() if line[:1].isalnum()]
    target = folder / "constraints.txt"
    target.write_text("\n".join(lines) + "\n")
    return target
