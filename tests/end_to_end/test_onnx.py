"""`[optimize] onnx = true`: from a pickled model to an image that has ONNX Runtime and nothing of scikit-learn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, Outcome

from lightship_runtime.golden import compare

pytestmark = pytest.mark.network

_OWN = """
import numpy
from sklearn.base import BaseEstimator, ClassifierMixin

class Constant(ClassifierMixin, BaseEstimator):
    def fit(self, rows, labels):
        self.classes_ = numpy.unique(labels)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows):
        return numpy.full(len(rows), self.classes_[0])
"""
_TRAIN = """
import joblib, own
from sklearn.datasets import load_iris
joblib.dump(own.Constant().fit(*load_iris(return_X_y=True)), "model.joblib")
"""


@pytest.fixture
def iris(example: Callable[[str], Path]) -> Path:
    """The example with the conversion asked for."""
    folder = example("iris")
    with (folder / "lightship.toml").open("a") as settings:
        settings.write("\n[optimize]\nonnx = true\n")
    return folder


def names_of(built: dict[str, Any]) -> str:
    return " ".join(layer["title"] for layer in built["layers"])


def test_the_converted_model_answers_without_its_library(iris: Path, succeed: Callable[..., Any]) -> None:
    proven = succeed("up", iris, "--once", "--engine", "embedded")
    golden = json.loads((ROOT / "examples" / "iris" / "golden.json").read_text())
    assert compare(golden["response"], proven["answer"], 1e-6) == []
    built = succeed("build", iris, "--locked", "--offline")
    assert "onnxruntime" in names_of(built)
    assert "scikit-learn" not in names_of(built)
    assert "model.onnx" in names_of(built)
    assert "model.joblib" not in names_of(built)
    (decision,) = [each for each in succeed("plan", iris)["decisions"] if each["name"] == "optimize"]
    assert any("without joblib, scikit-learn, scipy" in line for line in decision["evidence"])
    assert any("less to pull" in line for line in decision["evidence"])


def test_the_same_probabilities_by_name(iris: Path, succeed: Callable[..., Any]) -> None:
    asked = [[5.1, 3.5, 1.4, 0.2], [6.1, 2.8, 4.7, 1.2]]
    program = (
        "import joblib, json, sys; m = joblib.load(sys.argv[1]); rows = json.loads(sys.argv[2]);"
        "print(json.dumps([m.predict(rows).tolist(), m.predict_proba(rows).tolist(), m.classes_.tolist()]))"
    )
    arguments = [sys.executable, "-c", program, str(iris / "model.joblib"), json.dumps(asked)]
    direct = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    golden = {
        "request": {"instances": asked, "predict_proba": True},
        "response": dict(zip(("predictions", "probabilities", "classes"), direct, strict=True)),
    }
    (iris / "golden.json").write_text(json.dumps(golden))
    assert succeed("up", iris, "--once", "--engine", "embedded")["proven"]


def test_a_second_folder_gives_the_same_image_from_the_cache(
    iris: Path, succeed: Callable[..., Any], tmp_path: Path
) -> None:
    first = succeed("build", iris)
    assert succeed("build", iris, "--locked", "--offline")["digest"] == first["digest"]
    other = tmp_path / "elsewhere" / "iris"
    other.parent.mkdir()
    iris.rename(other)
    cold = {"LIGHTSHIP_CACHE": str(tmp_path / "cold")}
    assert succeed("build", other, "--locked", environ=cold)["digest"] == first["digest"]


def test_what_no_converter_knows_is_refused_with_what_to_do(iris: Path, lightship: Callable[..., Outcome]) -> None:
    (iris / "own.py").write_text(_OWN)
    (iris / "train.py").write_text(_TRAIN)
    (iris / "golden.json").write_text('{"request": [5.1, 3.5, 1.4, 0.2], "response": {"predictions": [0]}}')
    subprocess.run([sys.executable, "train.py"], cwd=iris, check=True)
    outcome = lightship("build", iris)
    assert outcome.status == 2
    assert "there is no converter to ONNX for own.Constant" in " ".join(outcome.stderr.split())
    assert "Leave [optimize] onnx out" in outcome.stderr


def test_another_answer_than_the_golden_one_is_refused(iris: Path, lightship: Callable[..., Outcome]) -> None:
    (iris / "golden.json").write_text('{"request": [5.1, 3.5, 1.4, 0.2], "response": {"predictions": ["virginica"]}}')
    outcome = lightship("build", iris)
    assert outcome.status == 2
    assert 'expected "virginica", got "setosa"' in " ".join(outcome.stderr.split())


def test_a_platform_that_is_not_this_machine_s_has_to_come_with_one_that_is(
    iris: Path, lightship: Callable[..., Outcome]
) -> None:
    outcome = lightship("build", iris, "--platform", "linux/arm64")
    assert outcome.status == 2
    assert "The model is converted on this machine" in " ".join(outcome.stderr.split())
