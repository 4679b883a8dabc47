"""The models that are served: trained here, the same file for every server."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROW = [6.9, 3.1, 5.4, 2.1]  # the golden request of examples/iris-fastapi

_TRAIN = """
import json, sys
import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
kind, path, row = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = {
    "logistic": LogisticRegression(max_iter=1000, random_state=0),
    "forest": RandomForestClassifier(n_estimators=100, random_state=0),
}[kind].fit(*load_iris(return_X_y=True))
joblib.dump(model, path)
rows = [row, *load_iris().data.tolist()]
print(json.dumps([[row, int(label)] for row, label in zip(rows, model.predict(rows))]))
"""

_CONVERT = """
import sys
import joblib
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
model = joblib.load(sys.argv[1])
options = {id(model): {"zipmap": False}}
converted = to_onnx(model, initial_types=[("X", FloatTensorType([None, 4]))], options=options)
open(sys.argv[2], "wb").write(converted.SerializeToString())
"""


@dataclass(frozen=True)
class Model:
    """A file, and what the library itself answers: to `ROW`, and to every row of iris."""

    name: str
    path: Path
    answers: tuple[tuple[list[float], int], ...] = ()


def train(kind: str, directory: Path, python: Path) -> Model:
    """Train `logistic` or `forest` (100 trees) on iris, with the library version that serves it."""
    path = directory / kind / "model.joblib"
    path.parent.mkdir(parents=True)
    command = [str(python), "-c", _TRAIN, kind, str(path), json.dumps(ROW)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Model(kind, path, tuple((row, label) for row, label in json.loads(printed)))


def convert(model: Model, python: Path) -> Model:
    """The same model as an ONNX file."""
    path = model.path.parent.with_name(f"{model.name}-onnx") / "model.onnx"
    path.parent.mkdir()
    subprocess.run([str(python), "-c", _CONVERT, str(model.path), str(path)], check=True)
    return Model(f"{model.name}-onnx", path, model.answers)
