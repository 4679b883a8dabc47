"""Memory: a model of 1 GB with one worker and with four; proportional memory (PSS) of all processes together."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from bench.serve.contestants import Contestant, Lightship, Place
from bench.serve.environments import environment
from bench.serve.models import Model
from bench.serve.server import Question, Server, ask

_WORKERS = (1, 4)
_ROUNDS = 200  # requests from each of 16 clients at once: every worker gets its turn
_CLIENTS = 16

_JOBLIB = """
import sys
import joblib, numpy
from sklearn.neighbors import NearestCentroid
columns = 8
rows = int(sys.argv[2]) * 1_000_000 // (columns * 8)
points = numpy.arange(rows * columns, dtype=float).reshape(rows, columns)
model = NearestCentroid()
model.fit(points[:4], [0, 1, 2, 2])
model.payload_ = points
joblib.dump(model, sys.argv[1])
"""

_SAFETENSORS = """
import sys
import torch
from safetensors.torch import save_file
width = 4096
layers = max(1, int(sys.argv[2]) * 1_000_000 // (width * width * 4))
save_file({f"layers.{number}.weight": torch.eye(width) for number in range(layers)}, sys.argv[1])
open(sys.argv[1].rpartition("/")[0] + "/network.py", "w").write(f'''
import torch
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear({width}, {width}, bias=False) for _ in range({layers}))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x[:, :2]
''')
"""


def run(place: Place, *, megabytes: int) -> object:
    """Both kinds of model; bytes by kind and number of workers."""
    print(f"\nmemory, a model of {megabytes} MB: PSS of all processes after every worker has answered")
    return {
        "joblib": _kind("joblib", "lightship", _joblib, place, megabytes),
        "safetensors": _kind("safetensors", "torch", _safetensors, place, megabytes),
    }


def _kind(
    name: str,
    used: str,
    make: Callable[[Path, Place, int], tuple[Model, Question, dict[str, object]]],
    place: Place,
    megabytes: int,
) -> dict[int, int]:
    folder = place.fresh(f"large-{name}")
    model, question, settings = make(folder, place, megabytes)
    found = {}
    for workers in _WORKERS:
        contestant = Contestant("lightship", used, Lightship({"workers": workers, **settings}, question))
        with contestant.run(model, place) as server:
            server.wait()
            _ask_all(server)
            found[workers] = server.memory("Pss")
    one, many = (found[workers] for workers in _WORKERS)
    print(
        f"  {name:12} {_WORKERS[0]} worker {one / 1e6:6.0f} MB   {_WORKERS[1]} workers {many / 1e6:6.0f} MB   "
        f"{many / one:.2f} times (bar: 1.25)",
        flush=True,
    )
    model.path.unlink()
    return found


def _ask_all(server: Server) -> None:
    """Ask from many clients at once, until every worker must have answered some of them."""
    failed = threading.Event()

    def client() -> None:
        for _ in range(_ROUNDS):
            if not ask(server.port, server.question, 60):
                failed.set()
                return

    clients = [threading.Thread(target=client) for _ in range(_CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    if failed.is_set():
        raise SystemExit(f"{server.process.args!r}: a wrong answer from the large model")


def _joblib(folder: Path, place: Place, megabytes: int) -> tuple[Model, Question, dict[str, object]]:
    path = folder / "model.joblib"
    python = environment("lightship", place.cache)
    subprocess.run([str(python), "-c", _JOBLIB, str(path), str(megabytes)], check=True)
    row = [float(number) for number in range(16, 24)]  # the third point, of class 2
    return Model("large", path, 2), Question("/predict", json.dumps(row), "[2]"), {}


def _safetensors(folder: Path, place: Place, megabytes: int) -> tuple[Model, Question, dict[str, object]]:
    path = folder / "model.safetensors"
    python = environment("torch", place.cache)
    subprocess.run([str(python), "-c", _SAFETENSORS, str(path), str(megabytes)], check=True)
    row = [3.0, 5.0] + [0.0] * 4094
    settings = {"network": "network.py:Network", "input_shape": [4096]}
    question = Question("/predict", json.dumps({"instances": [row]}), "[[3.0,5.0]]")
    return Model("large", path, 0), question, {"model_settings": settings}
