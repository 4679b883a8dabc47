"""BentoML with adaptive batching (https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html) and a worker
for each core (https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html)."""

from __future__ import annotations

import os

import bentoml
import joblib
import numpy


@bentoml.service(workers=len(os.sched_getaffinity(0)), metrics={"enabled": False}, traffic={"timeout": 60})
class Model:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, features: numpy.ndarray) -> numpy.ndarray:
        return self.model.predict(features)
