"""The examples' models: trained the same each time, with the versions that their images hold, and right."""

import hashlib
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = {"iris": "model.joblib", "iris-fastapi": "models/model.joblib"}
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of all-MiniLM-L6-v2


def _copy(name: str, target: Path) -> Path:
    return shutil.copytree(EXAMPLES / name, target, ignore=shutil.ignore_patterns("*.joblib", ".lightship"))


def _train(app: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, str(app / "train.py"), *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", MODELS)
def test_training_is_deterministic_and_can_be_left_out(tmp_path: Path, name: str) -> None:
    first, second = _copy(name, tmp_path / "first"), _copy(name, tmp_path / "second")
    _train(first)
    _train(second, "--if-missing")
    model = first / MODELS[name]
    assert model.read_bytes() == (second / MODELS[name]).read_bytes()
    model.write_bytes(b"kept")
    _train(first, "--if-missing")
    assert model.read_bytes() == b"kept"


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_trained_with_the_versions_that_the_image_holds(name: str) -> None:
    lines = (EXAMPLES / name / "requirements.txt").read_text().splitlines()
    for requirement in (Requirement(line) for line in lines if line and not line.startswith("#")):
        if requirement.name in ("scikit-learn", "joblib", "numpy", "scipy"):
            assert requirement.specifier.contains(version(requirement.name)), requirement


def test_the_iris_example_gives_its_golden_answer(start: Any, tmp_path: Path) -> None:
    app = _copy("iris", tmp_path / "iris")
    _train(app)
    digest = hashlib.sha256((app / "model.joblib").read_bytes()).hexdigest()
    model = {"path": "model.joblib", "format": "joblib", "engine": "sklearn", "sha256": digest}
    server = start(app, {"model": model, "golden": "golden.json"}).ready()  # ready means that the answer was right
    assert server.event("warm-up")
    warnings = [event["message"] for event in server.events if event["event"] == "warning"]
    assert len(warnings) == 1  # the versions fit; what is left to say is what loading a pickle means
    assert "its sha256 is the recorded one" in warnings[0]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples of texts, with the encoder fetched."""
    folder = tmp_path_factory.mktemp("texts")
    for name in ("embeddings", "classify"):
        shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("model", ".lightship"))
    _fetch(folder / "embeddings")
    return folder


def _fetch(app: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, str(app / "fetch.py"), *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.network
def test_the_encoder_is_fetched_whole_and_can_be_left_out(encoder: Path) -> None:
    model = encoder / "embeddings" / "model"
    assert hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest() == WEIGHTS
    assert {"modules.json", "config.json", "tokenizer.json", "1_Pooling"} <= {file.name for file in model.iterdir()}
    assert not list(model.rglob("*.py"))
    before = model.stat().st_mtime_ns
    _fetch(encoder / "embeddings", "--if-missing")
    assert model.stat().st_mtime_ns == before
    assert [file.name for file in (encoder / "embeddings").iterdir() if file.name.startswith("tmp")] == []


@pytest.mark.network
def test_a_wheel_that_is_another_is_not_unpacked(tmp_path: Path) -> None:
    app = shutil.copytree(EXAMPLES / "embeddings", tmp_path / "app", ignore=shutil.ignore_patterns("model"))
    script = app / "fetch.py"
    script.write_text(script.read_text().replace('SHA256 = "b', 'SHA256 = "c'))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, "hash" in done.stderr.lower()) == (1, True)
    assert not (app / "model").exists()


@pytest.mark.network
def test_the_embeddings_example_gives_its_golden_answer(start: Any, encoder: Path) -> None:
    pytest.importorskip("sentence_transformers")
    model = {"path": "model", "format": "huggingface", "engine": "sentence-transformers"}
    start(encoder / "embeddings", {"model": model, "golden": "golden.json", "name": "minilm"}).ready()


@pytest.mark.network
def test_the_classify_example_gives_its_golden_answer(start: Any, encoder: Path) -> None:
    pytest.importorskip("transformers")
    _train(encoder / "classify")
    model = {"path": "model", "format": "huggingface", "engine": "transformers"}
    start(encoder / "classify", {"model": model, "golden": "golden.json", "name": "messages"}).ready()
