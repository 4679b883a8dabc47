"""Which engine serves which model, what it is told, and what is refused before anything is built."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.linear_model import LinearRegression

from lightship.errors import ProjectError
from lightship.plan import Plan, make_plan
from lightship.project import load_project
from lightship.serve_config import CONFIG_PATH, serve_config
from lightship_runtime.config import Config, ModelFile


def plan(folder: Path, **overrides: Any) -> Plan:
    return make_plan(load_project(folder, overrides))


def served(planned: Plan) -> ModelFile:
    model = msgspec.json.decode(serve_config(planned, {})[CONFIG_PATH], type=Config).model
    assert model is not None
    return model


def transformers_folder(path: Path, architecture: str, **files: bytes) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": "bert"}))
    save_file({"w": np.zeros((4, 4), np.float32)}, path / "model.safetensors")
    for name, content in files.items():
        (path / name.replace("__", ".")).write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("BertForTokenClassification", "token-classification"),
        ("ViTForImageClassification", "image-classification"),
        ("BertModel", "feature-extraction"),
    ],
)
def test_a_transformers_folder_is_served_by_its_pipeline(tmp_path: Path, architecture: str, task: str) -> None:
    transformers_folder(tmp_path / "model", architecture)
    planned = plan(tmp_path)
    model = served(planned)
    assert (model.path, model.engine, model.task) == ("model", "transformers", task)
    assert task in planned.server.reason
    assert {"torch", "transformers"} <= set(planned.requirements.value.requirements)


def test_a_folder_with_modules_is_served_by_sentence_transformers(tmp_path: Path) -> None:
    transformers_folder(tmp_path / "model", "BertModel", modules__json=b"[]")
    model = served(plan(tmp_path))
    assert (model.engine, model.task) == ("sentence-transformers", None)


def test_text_that_is_generated_from_something_else_is_refused(tmp_path: Path) -> None:
    transformers_folder(tmp_path / "model", "BlipForConditionalGeneration")
    with pytest.raises(ProjectError, match="text generation") as caught:
        plan(tmp_path)
    assert "load() and predict()" in (caught.value.hint or "")


def test_the_task_can_be_told(tmp_path: Path) -> None:
    transformers_folder(tmp_path / "model", "BertForSequenceClassification")
    (tmp_path / "lightship.toml").write_text('[model]\ntask = "zero-shot-classification"\ntrust = true\n')
    model = served(plan(tmp_path))
    assert (model.task, model.trust) == ("zero-shot-classification", True)


def test_safetensors_with_a_network(tmp_path: Path) -> None:
    save_file({"w": np.zeros((4, 4), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ProjectError, match=r'network = "net\.py:Net"'):
        plan(tmp_path)
    settings = '[model]\nnetwork = "net.py:Net"\ninput_shape = [4]\ninput_dtype = "int64"\n'
    (tmp_path / "lightship.toml").write_text(settings)
    with pytest.raises(ProjectError, match="no such file"):
        plan(tmp_path)
    (tmp_path / "net.py").write_text("class Net: ...\n")
    planned = plan(tmp_path)
    model = served(planned)
    assert (model.engine, model.network, model.input_shape) == ("torch", "net.py:Net", (4,))
    assert model.input_dtype == "int64"
    assert "net.py" in {file.path for file in planned.app_files}
    assert [file.path for file in planned.weights_files] == ["model.safetensors"]


def test_a_pickle_is_told_what_would_be_better(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])))
    (tmp_path / "requirements.txt").write_text("scikit-learn==1.7.2\n")
    (tmp_path / "lightship.toml").write_text('[model]\npath = "model.pkl"\n')
    evidence = plan(tmp_path).server.evidence
    assert any("skops or ONNX" in line for line in evidence)
