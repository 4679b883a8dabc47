"""Servers of the runtime as real processes on loopback, and a small real model for them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_servers import Runtime

Start = Callable[..., Runtime]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a runtime: `start(app, config, NAME="value")`; it is gone after the test."""
    with contextlib.ExitStack() as stack:

        def starting(app: Path, config: dict[str, Any], **environment: str) -> Runtime:
            return stack.enter_context(contextlib.closing(Runtime(app, config, environment)))

        yield starting


@pytest.fixture(scope="session")
def iris_app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the iris model as the example trains it."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    app = tmp_path_factory.mktemp("iris")
    iris = load_iris()
    model = LogisticRegression(max_iter=1000).fit(iris.data, iris.target_names[iris.target])
    joblib.dump(model, app / "model.joblib")
    return app


@pytest.fixture
def iris_config(iris_app: Path) -> dict[str, Any]:
    digest = hashlib.sha256((iris_app / "model.joblib").read_bytes()).hexdigest()
    return {"model": {"path": "model.joblib", "format": "joblib", "engine": "sklearn", "sha256": digest}}


@pytest.fixture(scope="module")
def iris(iris_app: Path) -> Iterator[Runtime]:
    """One server of the iris model for a whole file of tests."""
    digest = hashlib.sha256((iris_app / "model.joblib").read_bytes()).hexdigest()
    config = {"model": {"path": "model.joblib", "format": "joblib", "engine": "sklearn", "sha256": digest}}
    runtime = Runtime(iris_app, {**config, "body_limit": 100_000}, {})
    try:
        yield runtime.ready()
    finally:
        runtime.close()
