"""From a configuration to a model that has given its golden answer: import, load, warm up, each with its seconds."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from lightship_runtime.config import Config, ModelFile
from lightship_runtime.deferred import deferring
from lightship_runtime.engines import Engine, ModelSource, find_engine, import_packages
from lightship_runtime.errors import GoldenMismatch, IntegrityError, StartError
from lightship_runtime.golden import Golden, GoldenError, load_golden
from lightship_runtime.host.answering import Answering
from lightship_runtime.host.progress import Announce, telling
from lightship_runtime.log import Log, round_seconds
from lightship_runtime.payload import Call
from lightship_runtime.payload.call import Protocol
from lightship_runtime.prefetch import prefetched

_PROTOCOLS: dict[str, Protocol] = {
    "/predict": "predict",
    "/generate": "generate",
    "/v1/completions": "completions",
    "/v1/chat/completions": "chat",
    "/v1/embeddings": "embeddings",
}
_FIRST_TEXT = Call("generate", b'{"prompt":"Hello","max_tokens":2}')


class Loaded:
    """A model that is ready.

    Attributes:
        engine: The model.
        answering: Answers calls with it.
        golden: The golden request, where there is one.
        phases: Seconds that importing, loading and warming up took.
    """

    def __init__(self, engine: Engine, answering: Answering, golden: Golden | None, phases: dict[str, float]) -> None:
        self.engine = engine
        self.answering = answering
        self.golden = golden
        self.phases = phases


def load(config: Config, app: Path, threads: int, log: Log, announce: Announce) -> Loaded:
    """Import, load and warm up, and log the seconds of each. Raises StartError.

    Everything happens in the calling thread: libraries that bind things to the thread they start in stay happy.
    `announce` is told what is going on, and how much of it is done where that is known.
    """
    model = config.model
    assert model is not None
    golden = _golden(app / config.golden) if config.golden else None
    kind = find_engine(model.engine)
    path = app / model.path
    if not path.exists():
        raise StartError(f"The model {model.path} is not there.", hint="Build the image again.")
    phases: dict[str, float] = {}
    source = ModelSource(model, path, threads)
    # The thread that reads ahead has ended before anybody forks.
    with prefetched(path) as prefetch, deferring(kind.deferred) as deferral:
        with _phase("import", phases, log, announce, packages=", ".join(kind.packages) or None):
            import_packages(kind)
        named = {"model": model.path, "format": model.format, "engine": model.engine}
        with _phase("load", phases, log, announce, **named), telling("load", prefetch, announce):
            try:
                engine = _load(kind, source, model, log, last=not deferral.pending)
            except _Again:
                deferral.resolve()
                engine = _load(kind, source, model, log, last=True)
    answering = Answering(engine, config.name, model.engine, log)
    if golden is not None:
        with _phase("warm-up", phases, log, announce):
            warm_up(answering, golden, config, log)
    elif engine.generates:
        with _phase("warm-up", phases, log, announce):
            if answering.answer(_FIRST_TEXT).status >= 500:
                raise StartError("The model failed on its first text.", hint="The log above says where.")
    return Loaded(engine, answering, golden, phases)


def warm_up(answering: Answering, golden: Golden, config: Config, log: Log) -> None:
    """Ask the golden request: the first prediction is the slow one, and its answer shows whether the model works."""
    path, _, query = golden.path.partition("?")
    if path not in _PROTOCOLS:
        raise StartError(
            f"The golden request goes to {golden.path}, but this server predicts at /predict.",
            hint="Set the path in the golden file to /predict, or leave it out.",
        )
    answer = answering.answer(Call(_PROTOCOLS[path], golden.body, query=query))
    if not answer.body:
        raise StartError("The golden request asks for an answer in parts.", hint="Leave stream out of it.")
    if answer.status != 200:
        said = msgspec.json.decode(answer.body).get("error", "")
        said = said.get("message", "") if isinstance(said, dict) else said
        raise GoldenMismatch(
            f"The golden request failed: {said}", hint="If it is the model that failed, the log above says where."
        )
    differences = golden.differences(msgspec.json.decode(answer.body))
    if not differences:
        return
    if config.golden_mismatch == "warn":
        log.event("golden answer differs", level="warning", differences=differences)
        return
    raise GoldenMismatch(
        "The model does not give the golden answer: " + "; ".join(differences),
        hint="The image has another library version or another model than the golden answer was made with.",
    )


class _Again(Exception):  # not an error of ours
    """Loading failed while some modules were only stood in for: with the real ones it may not."""


def _load(kind: type[Engine], source: ModelSource, model: ModelFile, log: Log, *, last: bool) -> Engine:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            engine = kind.load(source)
        except StartError as error:
            if not last and not isinstance(error, IntegrityError):
                raise _Again from error
            raise
        except Exception as error:
            if not last:
                raise _Again from error
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


@contextmanager
def _phase(name: str, phases: dict[str, float], log: Log, announce: Announce, **fields: Any) -> Iterator[None]:
    announce(name, None)
    started = time.perf_counter()
    yield
    phases[name] = round_seconds(time.perf_counter() - started)
    log.event(name, seconds=phases[name], **fields)
