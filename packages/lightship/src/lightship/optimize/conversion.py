"""From a model to model.onnx: looked up where it was converted before, else made and compared in the sandbox."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lightship.bases.base import Base
from lightship.cache import file_digest
from lightship.layers import Compression
from lightship.layers.environment import Environment
from lightship.layers.runtime import RuntimeRecipe
from lightship.lock import LockedWheel
from lightship.optimize.sandboxed import Program, digests, run_program, take
from lightship.session import Session
from lightship_runtime.config import ModelFile

RECIPE = 2  # part of every key: raise it when the same model would now become another file
TIMEOUT = 3600.0  # seconds; forests of thousands of trees take minutes
_RECORDS = "converted-models"
_PROGRAM = "inside"
_LARGEST = 2 << 30  # bytes: what a file of Protocol Buffers can hold


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
        digests(_PROGRAM),
        RuntimeRecipe(Environment("/usr/bin/python3", "3"), None).key,
        msgspec.to_builtins(task.model),
        [[path.relative_to(task.folder).as_posix(), file_digest(path)] for path in task.files],
        file_digest(task.golden) if task.golden is not None else None,
        task.tolerance,
        sorted(wheel.sha256 for wheel in task.wheels),
        task.base_key,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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
    files = {f"app/{path.relative_to(task.folder).as_posix()}": path for path in task.files}
    if task.golden is not None:
        files["golden.json"] = task.golden
    program = Program(
        title=task.title,
        name=_PROGRAM,
        files=files,
        request={"model": task.model, "golden": task.golden is not None, "tolerance": task.tolerance},
        wheels=task.wheels,
        base=task.base,
        timeout=TIMEOUT,
        hint="Leave [optimize] onnx out: the model is served as it is.",
    )
    with run_program(program, session, compression) as (folder, result):
        digest, size = take(folder, "model.onnx", task.title, session, most=_LARGEST)
        report = result.get("report")
        report = report if isinstance(report, dict) else {}
        return msgspec.convert({**report, "digest": digest, "size": size}, Converted)
