"""A loaded model, ready to answer: from a body's bytes to an answer's bytes, with its share of threads."""

from __future__ import annotations

import asyncio
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lightship_runtime.config import Config, ModelFile
from lightship_runtime.engines import BadInstances, Engine, ModelSource, Options, find_engine, import_packages
from lightship_runtime.errors import GoldenMismatch, StartError
from lightship_runtime.golden import Golden, GoldenError, load_golden
from lightship_runtime.log import Level, Log, round_seconds, where
from lightship_runtime.payload import RequestError, encode_answer, parse_request, wants_probabilities

PATH = "/predict"
Result = TypeVar("Result")


class Predictor:
    """Answers prediction requests with one engine. Knows nothing of HTTP but the status that an error should have."""

    def __init__(self, engine: Engine, log: Log) -> None:
        self._engine = engine
        self._log = log

    def answer(self, body: bytes, *, probabilities: bool = False) -> bytes:
        """The answer to a body. Raises RequestError, whose message may be sent to the client."""
        request = parse_request(body, self._engine.signature, probabilities=probabilities)
        try:
            prediction = self._engine.predict(request.instances, Options(probabilities=request.probabilities))
        except BadInstances as error:
            raise RequestError(str(error)) from error
        except self._engine.refused as error:
            self._note("input refused by the model", "warning", error)
            raise RequestError("The model refused this input.") from error
        except Exception as error:
            raise self._failure(error) from error
        try:
            if len(prediction.predictions) != len(request.instances):
                counts = f"{len(prediction.predictions)} predictions for {len(request.instances)} instances"
                raise RuntimeError(counts)
            return encode_answer(prediction)
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> RequestError:
        self._note("prediction failed", "error", error)
        return RequestError("The model failed on this request.", status=500)

    def _note(self, event: str, level: Level, error: Exception) -> None:
        """Log what went wrong and where. The exception's text stays out: libraries quote the values they choke on."""
        self._log.event(event, level=level, error=type(error).__name__, where=where(error.__traceback__))


class Workers:
    """The threads that predictions run in, so that the event loop stays free, and a bounded queue before them."""

    def __init__(self, threads: int, queue: int) -> None:
        self._limit = threads + queue
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self.busy = 0  # requests that run or wait

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` in a thread when its turn comes. Raises RequestError (429) where the queue is full."""
        if self.busy >= self._limit:
            raise RequestError("Too many requests are waiting. Try again.", status=429)
        self.busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self.busy -= 1

    def close(self) -> None:
        """Drop what still waits; what runs cannot be stopped, and is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def load_predictor(config: Config, app: Path, cpus: int, log: Log) -> tuple[Predictor, Workers]:
    """Import, load and warm up, and log the seconds of each. Raises StartError.

    Everything happens in the calling thread: libraries that bind things to the thread they start in stay happy.
    """
    model = config.model
    assert model is not None
    golden = _golden(app / config.golden) if config.golden else None
    kind = find_engine(model.engine)
    concurrency = config.concurrency or (cpus if kind.concurrent else 1)
    path = app / model.path
    if not path.exists():
        raise StartError(f"The model {model.path} is not there.", hint="Build the image again.")
    with _phase(log, "import", packages=", ".join(kind.packages) or None):
        import_packages(kind)
    with _phase(log, "load", model=model.path, format=model.format, engine=model.engine):
        engine = _load(kind, ModelSource(model, path, cpus), model, log)
    predictor = Predictor(engine, log)
    if golden is not None:
        with _phase(log, "warm-up"):
            _warm_up(predictor, golden, config, log)
    return predictor, Workers(concurrency, config.queue)


def _load(kind: type[Engine], source: ModelSource, model: ModelFile, log: Log) -> Engine:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            engine = kind.load(source)
        except StartError:
            raise
        except Exception as error:
            log.event("load failed", level="error", traceback=traceback.format_exc())
            raise StartError(
                f"{model.path} could not be loaded with {model.engine}: {type(error).__name__}: {error}",
                hint="The traceback is in the line above. Often the library has another version than the one that "
                "saved the model.",
            ) from error
    for message in sorted({str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)}):
        log.event("warning", level="warning", message=message)
    return engine


def _golden(path: Path) -> Golden:
    try:
        return load_golden(path)
    except GoldenError as error:
        raise StartError(str(error), hint="Build the image again.") from error


def _warm_up(predictor: Predictor, golden: Golden, config: Config, log: Log) -> None:
    """Ask the golden request: the first prediction is the slow one, and its answer shows whether the model works."""
    path, _, query = golden.path.partition("?")
    if path != PATH:
        raise StartError(
            f"golden.json asks {path}, but a model is served at {PATH}.", hint=f"Write {PATH}, or no path."
        )
    try:
        answer = predictor.answer(golden.body, probabilities=wants_probabilities(query.encode()))
    except RequestError as error:
        raise GoldenMismatch(
            f"The golden request is answered with an error: {error.message}",
            hint="Mend golden.json, or the model's requirements; the line above says more.",
        ) from error
    differences = golden.differences(msgspec.json.decode(answer))
    if not differences:
        return
    if config.golden_mismatch == "warn":
        log.event("golden answer differs", level="warning", differences=differences)
        return
    raise GoldenMismatch(
        f"The model does not give the golden answer: {'; '.join(differences)}.",
        hint="Other versions of the libraries, or another kind of CPU, may be the cause. Raise `tolerance` in "
        "golden.json where the difference is harmless.",
    )


@contextmanager
def _phase(log: Log, name: str, **fields: Any) -> Iterator[None]:
    started = time.perf_counter()
    yield
    log.event(name, seconds=round_seconds(time.perf_counter() - started), **fields)
