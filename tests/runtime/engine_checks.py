"""What the tests of all engines share: loading one as the runtime does, comparing, and asking it after a fork."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy

from lightship_runtime.config import ModelFile
from lightship_runtime.engines import Engine, ModelSource, Options, find_engine, import_packages

PATIENCE = 30  # seconds in which a forked child must have answered


def load(path: Path, kind: str, engine: str, *, threads: int = 1, **more: Any) -> Engine:
    """An engine, its packages imported as the host does it; `more` goes into the ModelFile."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    found = find_engine(engine)
    import_packages(found)
    model = ModelFile(path.name, kind, engine, **{"sha256": digest, **more})  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*whatever code its author")
        return found.load(ModelSource(model, path, threads=threads))


def plain(values: Any) -> Any:
    """Lists and scalars, whatever holds the arrays."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [plain(value) for value in values] if isinstance(values, (list, tuple)) else values


def same(one: Any, other: Any) -> bool:
    """Whether two arrays have the same type, shape and bits."""
    one, other = numpy.asarray(one), numpy.asarray(other)
    if one.dtype.kind in "OU":
        return one.tolist() == other.tolist()
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def answers_after_fork(path: Path, kind: str, engine: str, instances: list[Any]) -> None:
    """Load in a process of its own with one thread, ask, fork, ask in the children, which may use two threads.

    A process of its own: what trained the model here has started pools of threads.
    """
    content = json.dumps([str(path), kind, engine, instances])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, __file__],
        input=content,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE,
    )
    assert done.stdout == "the same\n", done.stdout + done.stderr[-2000:]


def _fork_and_ask(path: Path, kind: str, name: str, instances: list[Any]) -> str:
    engine = load(path, kind, name)
    if engine.forking() not in ("safe", "one thread"):
        return "never"
    wanted = plain(engine.predict(instances, Options()).predictions)
    results = []
    for _ in range(2):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(PATIENCE)  # a child that hangs dies
            try:
                engine.set_threads(2)
                with os.fdopen(writer, "wb") as file:
                    pickle.dump(plain(engine.predict(instances, Options()).predictions), file)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            results.append(file.read())
        if os.waitpid(pid, 0)[1]:
            return "a forked child hangs"
    if not all(results):
        return "a forked child failed"
    got = [pickle.loads(result) for result in results]
    if isinstance(wanted[0], (float, list)):
        return "the same" if all(numpy.allclose(one, wanted, rtol=1e-5) for one in got) else "others"
    return "the same" if _rounded(got) == _rounded([wanted, wanted]) else "others"


def _rounded(value: Any) -> Any:
    """Two threads add numbers up in another order than one."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    path, kind, name, instances = json.loads(sys.stdin.read())
    print(_fork_and_ask(Path(path), kind, name, instances))
