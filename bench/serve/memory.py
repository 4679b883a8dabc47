"""Memory: a model of 1 GB with one worker and with four; proportional memory (PSS) of all processes together.

It is read when every worker has answered many requests, one by one, so that what a prediction writes to is counted.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench.serve.contestants import Contestant, Lightship, Place
from bench.serve.environments import environment
from bench.serve.models import Model
from bench.serve.server import Question, Server, ask

_WORKERS = (1, 4)
_CLIENTS = 16
_LEAST = 20  # answers of each worker before the memory is read
_PATIENCE = 300  # seconds

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
    print(f"\nmemory, a model of {megabytes} MB: PSS of all processes after every worker has answered {_LEAST} times")
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
        contestant = Contestant(
            "lightship", used, Lightship({"workers": workers, "batch": 1, **settings}, [question])
        )
        with contestant.run(model, place) as server:
            server.wait()
            _ask_all(server, workers)
            found[workers] = server.memory("Pss")
    one, many = (found[workers] for workers in _WORKERS)
    print(
        f"  {name:12} {_WORKERS[0]} worker {one / 1e6:6.0f} MB   {_WORKERS[1]} workers {many / 1e6:6.0f} MB   "
        f"{many / one:.2f} times (bar: 1.25)",
        flush=True,
    )
    model.path.unlink()
    return found


def _ask_all(server: Server, workers: int) -> None:
    """Ask from many clients at once, until every worker has answered often enough."""
    over, failed = threading.Event(), threading.Event()

    def client() -> None:
        while not over.is_set():
            if not ask(server.port, server.question, 60):
                failed.set()
                over.set()

    clients = [threading.Thread(target=client) for _ in range(_CLIENTS)]
    for thread in clients:
        thread.start()
    until = time.monotonic() + _PATIENCE
    while not over.is_set():
        answered = _answered(server)
        if len(answered) == workers and min(answered) >= _LEAST:
            over.set()
        elif time.monotonic() > until:
            failed.set()
            over.set()
        time.sleep(0.1)
    for thread in clients:
        thread.join()
    if failed.is_set():
        raise SystemExit(f"{server.process.args!r}: a wrong answer from the large model, or a worker that gives none")


def _answered(server: Server) -> list[int]:
    """How many batches, here of one request each, every worker has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as response:
        text = response.read().decode()
    return [int(count) for count in re.findall(r"^lightship_worker_batches_total{.*} (\d+)$", text, re.MULTILINE)]


def _joblib(folder: Path, place: Place, megabytes: int) -> tuple[Model, Question, dict[str, object]]:
    path = folder / "model.joblib"
    python = environment("lightship", place.cache)
    subprocess.run([str(python), "-c", _JOBLIB, str(path), str(megabytes)], check=True)
    row = [float(number) for number in range(16, 24)]  # the third point, of class 2
    question = Question("/predict", json.dumps(row), '{"predictions":[2]}')
    return Model("large", path), question, {}


def _safetensors(folder: Path, place: Place, megabytes: int) -> tuple[Model, Question, dict[str, object]]:
    path = folder / "model.safetensors"
    python = environment("torch", place.cache)
    subprocess.run([str(python), "-c", _SAFETENSORS, str(path), str(megabytes)], check=True)
    row = [3.0, 5.0] + [0.0] * 4094
    settings = {"network": "network.py:Network", "input_shape": [4096]}
    question = Question("/predict", json.dumps({"instances": [row]}), '{"predictions":[[3.0,5.0]]}')
    return Model("large", path), question, {"model_settings": settings}
