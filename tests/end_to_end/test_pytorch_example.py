"""examples/text-classification: its model is the same wherever it is made, and its image answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def _train(folder: Path) -> dict[str, bytes]:
    subprocess.run([sys.executable, folder / "train.py"], check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}


def test_the_model_is_made_twice_the_same(example: Callable[[str], Path]) -> None:
    folder = example("text-classification")
    first = _train(folder)
    assert set(first) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name in first:
        (folder / "model" / name).unlink()
    assert _train(folder) == first


@pytest.mark.slow
@pytest.mark.network
def test_a_transformers_server_answers_its_golden_request(
    example: Callable[[str], Path], succeed: Callable[..., Any]
) -> None:
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or ""
    if not any(Path(links).glob("torch-*+cpu-*.whl") if links else ()):
        pytest.skip("no folder with PyTorch's wheel for CPUs is named; the one for CUDA is gigabytes")
    folder = example("text-classification")
    _train(folder)
    proven = succeed("up", folder, "--once", "--engine", "embedded")
    assert proven["proven"] is True
    assert proven["answer"] == json.loads((folder / "golden.json").read_text())["response"]
