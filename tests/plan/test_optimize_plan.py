"""What a plan says of `[optimize]`, before anything is converted."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.linear_model import LinearRegression

from lightship.errors import ProjectError
from lightship.lock import Inputs, Lock, LockedConversion, LockedWheel, Target, write_lock
from lightship.plan import Plan, make_plan
from lightship.plan.optimize import gain_of
from lightship.project import load_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    joblib.dump(LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0]), tmp_path / "model.joblib")
    (tmp_path / "requirements.txt").write_text("--find-links wheels\nscikit-learn==1.7.2\nextra-package\n")
    return tmp_path


def plan(folder: Path, **optimize: Any) -> Plan:
    return make_plan(load_project(folder, {"optimize": optimize}))


def test_a_model_stays_as_it_is_unless_the_settings_ask(folder: Path) -> None:
    decided = plan(folder)
    assert decided.optimize.value is None
    assert "would serve it with ONNX Runtime alone, without scikit-learn" in decided.optimize.reason
    assert decided.server.value.engine == "sklearn"
    assert [file.path for file in decided.weights_files] == ["model.joblib"]


def test_a_converted_model_needs_onnx_runtime_alone(folder: Path) -> None:
    decided = plan(folder, onnx=True, tolerance=1e-4)
    conversion = decided.optimize.value
    assert conversion is not None
    assert (conversion.path, conversion.tolerance) == ("model.onnx", 1e-4)
    assert conversion.requirements.path.name == "requirements.txt"
    assert decided.server.value.engine == "onnxruntime"
    # What is left of the file are the places that packages come from.
    assert [line.text for line in decided.requirements.value.lines] == ["--find-links wheels", "numpy", "onnxruntime"]
    assert decided.weights_files == ()
    assert decided.app_files == ()


def test_the_gain_is_told_once_it_is_locked(folder: Path) -> None:
    assert any("lightship lock" in line for line in plan(folder, onnx=True).optimize.evidence)
    sizes = LockedConversion(
        wheels=(LockedWheel("scikit-learn", "1.7.2", "scikit_learn-1.7.2-py3-none-any.whl", 9, "0" * 64),),
        dropped={"scikit-learn": (9_000_000, 30_000_000)},
        added={"onnxruntime": (4_000_000, 10_000_000)},
    )
    target = Target("3.11", "linux/amd64", (2, 36))
    write_lock(folder / "lightship.lock", Lock(target, Inputs("a", "b"), conversion=sizes))
    evidence = plan(folder, onnx=True).optimize.evidence
    assert "without scikit-learn" in evidence
    assert "instead onnxruntime" in evidence
    assert "wheels: 5.0 MB less to pull, 20.0 MB less unpacked" in evidence


def encoder(folder: Path, architecture: str, *, modules: bool = False) -> Path:
    """A folder as Hugging Face's, without a tensor."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    (folder / "tokenizer.json").write_text("{}")
    if modules:
        (folder / "modules.json").write_text("[]")
    return folder


@pytest.mark.parametrize(
    ("architecture", "modules", "engine"),
    [
        ("BertForSequenceClassification", False, "transformers"),
        ("BertForTokenClassification", False, "transformers"),
        ("BertModel", False, "transformers"),
        ("BertModel", True, "sentence-transformers"),
    ],
)
def test_an_encoder_needs_a_tokenizer_besides_and_no_pytorch(
    architecture: str, modules: bool, engine: str, tmp_path: Path
) -> None:
    encoder(tmp_path / "bge-small-v1.5", architecture, modules=modules)
    (tmp_path / "requirements.txt").write_text("torch\ntransformers\n")
    as_it_is = plan(tmp_path)
    assert as_it_is.server.value.engine == engine
    assert "ONNX Runtime alone, without PyTorch" in as_it_is.optimize.reason
    decided = plan(tmp_path, onnx=True)
    conversion = decided.optimize.value
    assert conversion is not None
    assert conversion.path == "bge-small-v1.5.onnx"
    assert conversion.without == ("huggingface-hub",)
    assert decided.server.value.engine == "onnxruntime-text"
    assert [line.text for line in decided.requirements.value.lines] == ["numpy", "onnxruntime", "tokenizers"]
    assert decided.weights_files == ()


def test_other_tasks_of_transformers_are_refused(tmp_path: Path) -> None:
    encoder(tmp_path / "model", "ViTForImageClassification")
    with pytest.raises(ProjectError, match="this is for image-classification"):
        plan(tmp_path, onnx=True)


def test_of_many_distributions_the_largest_are_named() -> None:
    dropped = {f"part-{number}": (number, number) for number in range(10)}
    lines = gain_of(LockedConversion(wheels=(), dropped=dropped, added={"onnxruntime": (1, 1)}))
    assert lines[:2] == [
        "without part-9, part-8, part-7, part-6, part-5, part-4, part-3 and 3 more",
        "instead onnxruntime",
    ]


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    (tmp_path / "requirements.txt").write_text("fastapi\n")
    with pytest.raises(ProjectError, match="this is an application of your own"):
        plan(tmp_path, onnx=True)
    (tmp_path / "serve.py").write_text("def load():\n    return 1\n\n\ndef predict(model, rows):\n    return rows\n")
    with pytest.raises(ProjectError, match="this is a python model, run by python"):
        plan(tmp_path, onnx=True)


@pytest.mark.parametrize("tolerance", [0, 1.0, -1e-5])
def test_a_tolerance_is_a_small_number(folder: Path, tolerance: float) -> None:
    with pytest.raises(ProjectError, match=r"optimize\.tolerance"):
        plan(folder, onnx=True, tolerance=tolerance)


def test_a_server_on_this_machine_has_the_model_as_it_is(folder: Path) -> None:
    project = load_project(folder, {"optimize": {"onnx": True}})
    decided = make_plan(project.as_it_is)
    assert decided.optimize.value is None
    assert decided.server.value.engine == "sklearn"
