"""Python files as models, the one model of a folder, and what a project's pins say to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import model_bytes
import pytest

from lightship.errors import ProjectError
from lightship.models import Model, Package, compare, detect, find, propose_requirements

SERVE = """
import os
from pathlib import Path

import joblib
import cv2
from PIL import Image
from features import encode
from . import nothing


def load():
    return joblib.load(Path(__file__).parent / "models/model.joblib"), "no such file.bin", "../outside.bin"


async def predict(model, inputs, *, limit=3, **options):
    def inner():
        yield 1

    return model.predict(inputs)
"""


def test_a_python_file_with_load_and_predict_is_parsed_not_imported(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "serve.py"
    path.write_text(SERVE + "\nraise SystemExit('imported')\n")
    (tmp_path / "features.py").write_text("def encode(): ...\n")
    (tmp_path / "models").mkdir()
    weights = Path(shutil.copy(saved, tmp_path / "models" / "model.joblib"))
    model = detect(path)
    assert (model.format, model.engine) == ("python", "python")
    assert dict(model.details) == {
        "predict": "async predict(model, inputs, limit, **options)",
        "answers": "at once",
        "load": "load()",
    }
    assert [package.name for package in model.packages] == ["joblib", "opencv-python-headless", "pillow"]
    assert model.files == (weights, path)
    assert model.size == weights.stat().st_size + path.stat().st_size
    assert model.code == (path, tmp_path / "features.py")


def test_a_generator_answers_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "serve.py"
    path.write_text("def load(): ...\ndef predict(model, text):\n    for word in text:\n        yield word\n")
    assert dict(detect(path).details)["answers"] == "as a stream"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (b"def load(): ...\n", r"has no predict\(\)"),
        (b"x = 1\n", r"has no load\(\) and no predict\(\)"),
        (b"def load(:\n", "line 1 is no valid Python"),
        (b"def load(): ...\n\0", "is no valid Python"),
        (b"\xff\xfe", "is no valid Python"),
        (b"def load(): return " + b"(" * 5000 + b"\n", "is no valid Python"),
        (b"def load(): return " + b"-" * 100_000 + b"1\n", "is no valid Python"),
    ],
)
def test_other_python_files_are_refused(tmp_path: Path, source: bytes, why: str) -> None:
    path = tmp_path / "serve.py"
    path.write_bytes(source)
    with pytest.raises(ProjectError, match=why):
        detect(path)


# The one model of a folder


@pytest.mark.parametrize("place", ["", "models", "model"])
def test_the_one_model_is_found(tmp_path: Path, saved: Path, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / "requirements.txt").write_text("scikit-learn\n")
    (tmp_path / "golden.json").write_text("{}")
    (tmp_path / "serve.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    (tmp_path / "notes.txt").write_text("tree of life")
    (tmp_path / place / ".hidden.pkl").write_bytes(b"x")
    path = Path(shutil.copy(saved, tmp_path / place / "iris.joblib"))
    assert find(tmp_path) == path


def test_models_with_everyday_suffixes_are_found_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"inputs": []}')
    path = tmp_path / "trees.json"
    path.write_bytes(model_bytes.xgboost_json())
    assert find(tmp_path) == path


def test_several_models_are_listed_with_the_way_to_choose(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "models").mkdir()
    shutil.copy(saved, tmp_path / "a.joblib")
    shutil.copy(saved, tmp_path / "models" / "b.joblib")
    with pytest.raises(ProjectError, match=r"2 models: a\.joblib, models/b\.joblib") as caught:
        find(tmp_path)
    assert caught.value.hint is not None and 'path = "a.joblib"' in caught.value.hint


def test_no_model_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"has no model.*\.gguf.*\.joblib.*Hugging Face"):
        find(tmp_path)
    with pytest.raises(ProjectError, match="has no model"):
        find(tmp_path / "missing")


def test_a_python_file_wins_over_the_weights_that_it_loads(tmp_path: Path, saved: Path) -> None:
    shutil.copy(saved, tmp_path / "model.joblib")
    path = tmp_path / "predictor.py"
    path.write_text("def load(): ...\ndef predict(model, inputs): ...\n")
    assert find(tmp_path) == path


def test_parts_of_one_model_count_once(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"m-{number:05}-of-00002.gguf").write_bytes(model_bytes.gguf())
    assert find(tmp_path) == tmp_path / "m-00001-of-00002.gguf"


def test_a_folder_that_is_a_model_is_found(tmp_path: Path) -> None:
    from test_model_folders import folder, with_weights

    (tmp_path / "models").mkdir()
    path = with_weights(folder(tmp_path / "models" / "llm"))
    assert find(tmp_path) == path
    assert find(path) == path


# Pins


def model_with(*packages: Package) -> Model:
    return Model(Path("m"), "joblib", "sklearn", 0, None, (), packages)


@pytest.mark.parametrize(
    ("package", "pin", "fits"),
    [
        (Package("scikit-learn", "1.7.2", "r"), "1.7.2", True),
        (Package("scikit-learn", "1.7.2", "r"), "1.7.0", True),
        (Package("scikit-learn", "1.7.2", "r"), "1.6.1", False),
        (Package("scikit-learn", "1.7.2", "r"), "1.8.0", False),
        (Package("scikit-learn", "1.7.2", "r"), "not a version", True),
        (Package("scikit-learn", "1.8.dev0", "r"), "1.7.2", False),
        (Package("xgboost", "2.1.4", "r"), "3.0.0", True),
        (Package("xgboost", "2.1.4", "r"), "1.7.6", False),
        (Package("numpy", None, "r", minimum="1.26"), "1.24.4", False),
        (Package("numpy", None, "r", minimum="1.26"), "2.3.0", True),
        (Package("joblib", None, "r"), "1.0", True),
    ],
)
def test_pins_that_do_not_fit_are_told(package: Package, pin: str, fits: bool) -> None:
    messages = compare(model_with(package), {package.name.replace("-", "_").upper(): pin, "other": "1"})
    assert (messages == ()) is fits
    assert all(package.name in message and pin in message for message in messages)


def test_packages_without_a_pin_are_no_difference() -> None:
    assert compare(model_with(Package("scikit-learn", "1.7.2", "r")), {}) == ()


def test_requirements_are_pinned_where_the_version_is_known() -> None:
    model = model_with(
        Package("a", "1.2.3", "r"),
        Package("b", "1.2", "r"),
        Package("c", None, "r", minimum="4.0"),
        Package("d", None, "r"),
        Package("e", "no version", "r"),
    )
    assert propose_requirements(model) == ("a==1.2.3", "b~=1.2.0", "c>=4.0", "d", "e")
