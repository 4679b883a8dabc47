"""What the tests of all engines share: loading one as the runtime does, comparing, and asking it after a fork."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import select
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy

from lightship_runtime.config import ModelFile
from lightship_runtime.engines import Engine, ModelSource, Options, find_engine, import_packages

PATIENCE = 60  # seconds in which a forked child must have answered


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


def answers_after_fork(engine: Engine, instances: Any, threads: int = 2, children: int = 2) -> None:
    """Ask here, then in forked children that may use more threads: the answers must come, and be the same."""
    assert engine.forking() in ("safe", "one thread")
    wanted = plain(engine.predict(instances, Options()).predictions)
    started = []
    for _ in range(children):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reader)
                engine.set_threads(threads)
                with os.fdopen(writer, "wb") as file:
                    pickle.dump(plain(engine.predict(instances, Options()).predictions), file)
            finally:
                os._exit(0)
        os.close(writer)
        started.append((pid, reader))
    for pid, reader in started:
        with os.fdopen(reader, "rb") as file:
            ready, _, _ = select.select([file], [], [], PATIENCE)
            content = file.read() if ready else b""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert ready, "the forked child hangs"
        assert content, "the forked child failed"
        got = pickle.loads(content)
        assert numpy.allclose(got, wanted, rtol=1e-6) if isinstance(got[0], float) else got == wanted
