"""Models of several formats, made here by their own libraries, become images that answer as those libraries do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.network


def python_file(folder: Path) -> tuple[Any, Any]:
    code = "def load():\n    return 2.0\n\n\ndef predict(model, rows):\n    return [model * row[0] for row in rows]\n"
    (folder / "model.py").write_text(code)
    (folder / "requirements.txt").write_text("")
    return [[1.5], [2]], [3.0, 4.0]


def lightgbm(folder: Path) -> tuple[Any, Any]:
    import lightgbm
    from sklearn.datasets import load_iris

    features, classes = load_iris(return_X_y=True)
    settings = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(features, classes), 5)
    booster.save_model(folder / "model.txt")
    return features[:2].tolist(), booster.predict(features[:2]).tolist()


def onnx(folder: Path) -> tuple[Any, Any]:
    import onnx
    from onnx import TensorProto, helper

    weights = helper.make_tensor("W", TensorProto.FLOAT, [4, 3], [1.0] * 12)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return [[1, 2, 3, 4]], [[10.0, 10.0, 10.0]]


def skops(folder: Path) -> tuple[Any, Any]:
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, classes = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(features, classes)
    skops.io.dump(model, folder / "model.skops")
    return features[:3].tolist(), model.predict(features[:3]).tolist()


def test_a_flask_application_is_served(succeed: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "app.py").write_text(
        "from flask import Flask, request\n"
        "app = Flask(__name__)\n"
        "@app.get('/health')\n"
        "def health():\n    return {'ok': True}\n"
        "@app.post('/predict')\n"
        "def predict():\n    return {'sum': sum(request.get_json())}\n"
    )
    (folder / "requirements.txt").write_text("flask>=3\n")
    (folder / "golden.json").write_text(json.dumps({"request": [1, 2], "response": {"sum": 3}}))
    assert succeed("up", folder, "--once", "--engine", "embedded")["proven"] is True


@pytest.mark.parametrize("make", [python_file, lightgbm, onnx, skops])
def test_a_model_without_any_settings_answers(
    make: Callable[[Path], tuple[Any, Any]], succeed: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    request, predictions = make(folder)
    golden = {"request": request, "response": {"predictions": predictions}, "tolerance": 1e-6}
    (folder / "golden.json").write_text(json.dumps(golden))
    proven = succeed("up", folder, "--once", "--engine", "embedded")
    assert proven["proven"] is True
