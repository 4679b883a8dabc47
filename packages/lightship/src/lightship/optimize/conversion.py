"""From a model to model.onnx: looked up where it was converted before, else made and compared in the sandbox."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lightship.bases.base import Base
from lightship.building.failure import SourceBuildError, last_lines
from lightship.building.leavings import open_left, read_result
from lightship.building.sandbox import sandbox_root
from lightship.cache import CHUNK, file_digest, storing
from lightship.errors import ProjectError
from lightship.layers import EPOCH, Compression
from lightship.layers.environment import PREFIX, PYTHON, Environment
from lightship.layers.runtime import RuntimeRecipe
from lightship.lock import LockedWheel
from lightship.run.sandbox import WORK, run_sandboxed
from lightship.session import Session
from lightship_runtime.config import ModelFile

RECIPE = 1  # part of every key: raise it when the same model would now become another file
TIMEOUT = 3600.0  # seconds; forests of thousands of trees take minutes
_RECORDS = "converted-models"
_INSIDE = Path(__file__).with_name("inside")
_LARGEST = 2 << 30  # bytes: what a file of Protocol Buffers can hold
_MOST_SHOWN = 4000  # characters of a reason
ENVIRONMENT = {
    "PATH": f"/{PREFIX}/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": WORK + "/tmp",  # noqa: S108 - inside the sandbox
    "TMPDIR": WORK + "/tmp",  # noqa: S108 - on the disk: /tmp itself is memory
    "LANG": "C.UTF-8",
    "SOURCE_DATE_EPOCH": str(EPOCH),
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    # Sums in another order have another last digit: one thread gives the same file on every machine.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class ConversionError(ProjectError):
    """A model cannot be converted, or does not answer the same when it was."""


@dataclass(frozen=True)
class Task:
    """A model to convert, and what with.

    Attributes:
        title: The model's path, for people.
        model: As the runtime loads it; its path is relative to `folder`.
        folder: The project's folder.
        files: The model's file or files, and the project's own modules that it imports.
        golden: The golden request and answer, which the converted model must give too.
        tolerance: How far answers may differ.
        wheels: The environment to convert in, all of them in the cache.
        base_key: What identifies the base.
        base: The base, waited for only where something is converted.
    """

    title: str
    model: ModelFile
    folder: Path
    files: tuple[Path, ...]
    golden: Path | None
    tolerance: float
    wheels: tuple[LockedWheel, ...]
    base_key: Mapping[str, Any]
    base: Callable[[], Base]


class Converted(msgspec.Struct, frozen=True):
    """A file in the cache that answers as the model does.

    Attributes:
        digest: `sha256:<hex>`.
        size: In bytes.
        precision: What the graph computes in.
        rows: How many rows both were asked.
        worst: The largest difference between two numbers of the answers.
        refuses_missing: Whether the model answered rows with missing values, which the file refuses.
    """

    digest: str
    size: int
    precision: str
    rows: int
    worst: float
    refuses_missing: bool = False


def convert(task: Task, session: Session, compression: Compression) -> Converted:
    """The model as ONNX, in the cache.

    Raises: `ConversionError` where it cannot be converted or would answer otherwise, naming the worst difference;
        `EngineError` where there can be no sandbox.
    """
    key = _key(task)
    if known := _recorded(key, session):
        return known
    with session.cache.lock(f"convert-{key}"):
        if known := _recorded(key, session):
            return known
        with session.progress.task(f"Converting {task.title} to ONNX"):
            converted = _convert(task, session, compression)
        session.cache.write_record(_RECORDS, key, msgspec.to_builtins(converted))
        return converted


def _key(task: Task) -> str:
    parts = [
        RECIPE,
        [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in _program()],
        RuntimeRecipe(Environment("/usr/bin/python3", "3"), None).key,
        msgspec.to_builtins(task.model),
        [[path.relative_to(task.folder).as_posix(), file_digest(path)] for path in task.files],
        file_digest(task.golden) if task.golden is not None else None,
        task.tolerance,
        sorted(wheel.sha256 for wheel in task.wheels),
        task.base_key,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _program() -> Iterator[Path]:
    return iter(sorted(_INSIDE.glob("*.py")))


def _recorded(key: str, session: Session) -> Converted | None:
    record = session.cache.read_record(_RECORDS, key)
    if record is None:
        return None
    try:
        known = msgspec.convert(record, Converted)
    except msgspec.ValidationError:
        return None
    return known if session.cache.has_blob(known.digest, known.size) else None


def _convert(task: Task, session: Session, compression: Compression) -> Converted:
    base = task.base()
    environment = Environment(base.interpreter.path, base.interpreter.version)
    with session.cache.temporary_directory() as work:
        with storing(work):
            _fill(work, task)
        runtime = RuntimeRecipe(environment, None)
        root, held = sandbox_root(base, task.wheels, session, compression, more=[runtime])
        try:
            program = [PYTHON, "-s", "-m", "lightship.optimize.inside"]
            finished = run_sandboxed(root, program, ENVIRONMENT, work, timeout=TIMEOUT)
        finally:
            if held:
                held.close()
        if finished.status is None:
            raise ConversionError(f"{task.title}: the conversion did not end within {TIMEOUT:.0f} seconds.")
        if finished.status != 0:
            raise ConversionError(
                f"{task.title} could not be converted to ONNX:\n{last_lines(finished.output)}",
                hint="Leave [optimize] onnx out: the model is served as it is.",
            )
        return _taken(work, task, session)


def _fill(work: Path, task: Task) -> None:
    """The sandbox's folder: the program, the model with its modules, and the request."""
    inside = work / "lightship" / "optimize" / "inside"
    inside.mkdir(parents=True)
    for path in _program():
        shutil.copyfile(path, inside / path.name)
    for folder in ("out", "tmp", "app"):
        (work / folder).mkdir()
    for path in task.files:
        target = work / "app" / path.relative_to(task.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if task.golden is not None:
        shutil.copyfile(task.golden, work / "golden.json")
    request = {"model": task.model, "golden": task.golden is not None, "tolerance": task.tolerance}
    (work / "request.json").write_bytes(msgspec.json.encode(request))


def _shown(text: str) -> str:
    """What the sandbox said, for a terminal: the model's own code may have written it."""
    return "".join(character if character.isprintable() else " " for character in text[:_MOST_SHOWN])


def _taken(work: Path, task: Task, session: Session) -> Converted:
    """What the sandbox left, of which nothing is believed: the file goes to the cache under its own digest."""
    try:
        result = read_result(work, task.title)
        if isinstance(refused := result.get("refused"), str):
            hint = _shown(str(result.get("hint", "")))
            raise ConversionError(f"{task.title} is not converted to ONNX: {_shown(refused)}.", hint=hint)
        with open_left(work / "out", "model.onnx", task.title) as file, session.cache.new_blob() as blob:
            while piece := file.read(CHUNK):
                blob.write(piece)
                if blob.size > _LARGEST:
                    raise ConversionError(f"{task.title}: the converted model is larger than {_LARGEST >> 30} GiB.")
        report = result.get("report")
        report = report if isinstance(report, dict) else {}
        return msgspec.convert({**report, "digest": blob.digest, "size": blob.size}, Converted)
    except (SourceBuildError, msgspec.ValidationError) as error:
        raise ConversionError(f"{task.title}: the conversion left no result that can be read: {error}.") from error
