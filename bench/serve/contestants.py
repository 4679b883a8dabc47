"""How each server is started with a model, and how it is asked: each in its best documented configuration."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.apps import ROOT
from bench.serve.environments import PEERS, environment
from bench.serve.models import Model
from bench.serve.server import Question, Server, free_port

RUNTIME = ROOT / "packages" / "lightship-runtime" / "src"


_ENGINES = {  # format and engine, by the file's name
    ".joblib": ("joblib", "sklearn"),
    ".onnx": ("onnx", "onnxruntime"),
    ".py": ("python", "python"),
    ".safetensors": ("safetensors", "torch"),
}


@dataclass(frozen=True)
class Place:
    """Where environments are kept and where a run may write."""

    cache: Path
    scratch: Path

    def fresh(self, name: str) -> Path:
        """A new folder for one server."""
        for number in range(1_000_000):
            path = self.scratch / f"{name}-{number}"
            if not path.exists():
                path.mkdir(parents=True)
                return path
        raise SystemExit(f"{self.scratch} is full of servers")


@dataclass(frozen=True)
class Contestant:
    """A server by name: which environment it runs in, and what starts it with a model."""

    name: str
    environment: str
    start: Callable[[Path, Model, Place], Server]

    def run(self, model: Model, place: Place) -> Server:
        """Start it; it may not answer yet."""
        return self.start(environment(self.environment, place.cache), model, place)


@dataclass(frozen=True)
class Lightship:
    """Our server.

    Attributes:
        settings: Fields of serve.json.
        questions: Instead of the model's own.
        port: Instead of a free one.
    """

    settings: Mapping[str, object] = field(default_factory=dict)
    questions: Sequence[Question] = ()
    port: int | None = None

    def __call__(self, python: Path, model: Model, place: Place) -> Server:
        folder, port = place.fresh("lightship"), self.port or free_port()
        name = f"model{model.path.suffix}"
        os.link(model.path, folder / name)
        kind, engine = _ENGINES[model.path.suffix]
        with model.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        described = {"path": name, "format": kind, "engine": engine, "sha256": digest}
        config = {"host": "127.0.0.1", "port": port, "model": described, **self.settings}
        if isinstance(extra := config.pop("model_settings", None), dict):
            config["model"] = {**described, **extra}
        for source in model.path.parent.glob("*.py"):
            shutil.copy(source, folder)
        path = folder / ".lightship" / "serve.json"
        path.parent.mkdir()
        path.write_text(json.dumps(config))
        environ = {"LIGHTSHIP_CONFIG": str(path), "PYTHONPATH": str(RUNTIME)}
        questions = self.questions or _questions(
            model, lambda row, label: Question("/predict", json.dumps(row), f'{{"predictions":[{label}]}}')
        )
        command = [str(python), "-m", "lightship_runtime"]
        return Server(command, port, questions, environ=environ, cwd=folder, log=folder / "log")


def _questions(model: Model, ask: Callable[[list[float], int], Question]) -> list[Question]:
    """One for each answer that is known, so that no two requests in a row are the same, and answers differ."""
    return [ask(row, label) for row, label in model.answers]


def _fastapi(python: Path, model: Model, place: Place) -> Server:
    """The textbook server exactly as its Dockerfile starts it: uvicorn, one process."""
    folder, port = place.fresh("fastapi"), free_port()
    shutil.copy(ROOT / "examples" / "iris-fastapi" / "serve.py", folder)
    (folder / "models").mkdir()
    os.link(model.path, folder / "models" / "model.joblib")
    command = [str(python.with_name("uvicorn")), "serve:app", "--host", "127.0.0.1", "--port", str(port)]
    questions = _questions(
        model, lambda row, label: Question("/predict", json.dumps(row), f'{{"prediction":[{label}]}}')
    )
    return Server(command, port, questions, environ={}, cwd=folder, log=folder / "log")


def _features(model: Model) -> list[Question]:
    return _questions(
        model,
        lambda row, label: Question("/predict", json.dumps({"features": row}), f'{{"prediction":{label}}}'),
    )


def _litserve(python: Path, model: Model, place: Place) -> Server:
    folder, port = place.fresh("litserve"), free_port()
    environ = {"BENCH_MODEL": str(model.path)}
    command = [str(python), str(PEERS / "litserve" / "serve.py")]
    return Server(command, port, _features(model), environ=environ, cwd=folder, log=folder / "log")


def _bentoml(python: Path, model: Model, place: Place) -> Server:
    folder, port = place.fresh("bentoml"), free_port()
    shutil.copy(PEERS / "bentoml" / "service.py", folder)
    environ = {
        "BENCH_MODEL": str(model.path),
        "BENTOML_HOME": str(folder / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    questions = _questions(
        model, lambda row, label: Question("/predict", json.dumps({"features": [row]}), f"[{label}]")
    )
    serve = [str(python.with_name("bentoml")), "serve", "service:Model"]
    command = [*serve, "--host", "127.0.0.1", "--port", str(port)]
    return Server(command, port, questions, environ=environ, cwd=folder, log=folder / "log")


def _mlserver(python: Path, model: Model, place: Place) -> Server:
    """Adaptive batching (docs.seldon.ai/mlserver/user-guide/adaptive-batching) and an inference process for each core
    (docs.seldon.ai/mlserver/user-guide/parallel-inference)."""
    folder, port = place.fresh("mlserver"), free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": len(os.sched_getaffinity(0)),
    }
    described = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "max_batch_size": 64,
        "max_batch_time": 0.001,
        "parameters": {"uri": str(model.path), "version": "1"},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(described))

    def ask(row: list[float], label: int) -> Question:
        tensor = {"name": "features", "shape": [1, len(row)], "datatype": "FP64", "data": [row]}
        body = json.dumps({"inputs": [tensor]})
        return Question("/v2/models/model/infer", body, f'"data":[{label}]', whole=False)  # each has an id of its own

    command = [str(python.with_name("mlserver")), "start", "."]
    return Server(command, port, _questions(model, ask), environ={}, cwd=folder, log=folder / "log")


def _ray(python: Path, model: Model, place: Place) -> Server:
    folder, port = place.fresh("ray"), free_port()
    environ = {
        "BENCH_MODEL": str(model.path),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [str(python), str(PEERS / "ray" / "service.py")]
    return Server(command, port, _features(model), environ=environ, cwd=folder, log=folder / "log")


LIGHTSHIP = Contestant("lightship", "lightship", Lightship())
PEER_SERVERS = {
    "fastapi": Contestant("fastapi", "fastapi", _fastapi),
    "litserve": Contestant("litserve", "litserve", _litserve),
    "bentoml": Contestant("bentoml", "bentoml", _bentoml),
    "mlserver": Contestant("mlserver", "mlserver", _mlserver),
    "ray": Contestant("ray", "ray", _ray),
}
