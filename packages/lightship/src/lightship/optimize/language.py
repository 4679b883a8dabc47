"""From a language model to a folder of ONNX Runtime GenAI: looked up where it was converted before, else made and
tried in the sandbox."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lightship.bases.base import Base
from lightship.building.failure import SourceBuildError, last_lines
from lightship.building.leavings import open_left, read_result
from lightship.building.sandbox import sandbox_root
from lightship.cache import CHUNK, storing
from lightship.file_digests import known_digest
from lightship.layers import Compression
from lightship.layers.environment import PYTHON, Environment
from lightship.layers.runtime import RuntimeRecipe
from lightship.lock import LockedWheel
from lightship.optimize.conversion import ENVIRONMENT, ConversionError
from lightship.run.sandbox import run_sandboxed
from lightship.session import Session

RECIPE = 1  # part of every key: raise it when the same model would now become other files
TIMEOUT = 6 * 3600.0  # seconds; models of some billion parameters take minutes, and more memory than there may be
_RECORDS = "converted-language-models"
_INSIDE = Path(__file__).with_name("writing")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MOST_FILES = 200
_MOST_SHOWN = 4000  # characters of a reason
# Nothing is looked for outside, and one thread gives the same file on every machine.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class LanguageTask:
    """A language model to convert, and what with.

    Attributes:
        title: The model's path, for people.
        folder: What the paths of its files are relative to.
        files: All of them.
        gguf: The GGUF file's name among them; None for a Hugging Face folder.
        precision: As the model builder calls it: int4, int8, fp32.
        first_text: What the converted model is asked for: the fields of a GenerationRequest.
        wheels: The environment to convert in, all of them in the cache once `base` was called.
        base_key: What identifies the base.
        base: The base, waited for only where something is converted.
    """

    title: str
    folder: Path
    files: tuple[Path, ...]
    gguf: str | None
    precision: str
    first_text: Mapping[str, Any]
    wheels: tuple[LockedWheel, ...]
    base_key: Mapping[str, Any]
    base: Callable[[], Base]


class ConvertedFile(msgspec.Struct, frozen=True):
    """A file in the cache; `digest` is `sha256:<hex>`, `size` in bytes."""

    name: str
    digest: str
    size: int


class ConvertedLanguageModel(msgspec.Struct, frozen=True):
    """The files of the folder, and what the converted model wrote as its first text."""

    files: tuple[ConvertedFile, ...]
    text: str


def convert_language_model(task: LanguageTask, session: Session, compression: Compression) -> ConvertedLanguageModel:
    """The model as ONNX, its files in the cache.

    Raises: `ConversionError` where it cannot be converted, or writes nothing then; `EngineError` where there can be
        no sandbox.
    """
    key = _key(task, session)
    if known := _recorded(key, session):
        return known
    with session.cache.lock(f"convert-{key}"):
        if known := _recorded(key, session):
            return known
        with session.progress.task(f"Converting {task.title} to ONNX, {task.precision}"):
            converted = _convert(task, session, compression)
        session.cache.write_record(_RECORDS, key, msgspec.to_builtins(converted))
        return converted


def _key(task: LanguageTask, session: Session) -> str:
    parts = [
        RECIPE,
        [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in _program()],
        RuntimeRecipe(Environment("/usr/bin/python3", "3"), None).key,
        [[file.relative_to(task.folder).as_posix(), known_digest(file, session.cache)] for file in task.files],
        [task.gguf is not None, task.precision, task.first_text],
        sorted(wheel.sha256 for wheel in task.wheels),
        task.base_key,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _program() -> Sequence[Path]:
    return sorted(_INSIDE.glob("*.py"))


def _recorded(key: str, session: Session) -> ConvertedLanguageModel | None:
    record = session.cache.read_record(_RECORDS, key)
    try:
        known = msgspec.convert(record, ConvertedLanguageModel) if record is not None else None
    except msgspec.ValidationError:
        return None
    whole = known and all(session.cache.has_blob(file.digest, file.size) for file in known.files)
    return known if whole else None


def _convert(task: LanguageTask, session: Session, compression: Compression) -> ConvertedLanguageModel:
    base = task.base()
    environment = Environment(base.interpreter.path, base.interpreter.version)
    with session.cache.temporary_directory() as work:
        with storing(work):
            _fill(work, task)
        root, held = sandbox_root(base, task.wheels, session, compression, more=[RuntimeRecipe(environment, None)])
        try:
            program = [PYTHON, "-s", "-m", "lightship.optimize.writing"]
            finished = run_sandboxed(root, program, {**ENVIRONMENT, **_OFFLINE}, work, timeout=TIMEOUT)
        finally:
            if held:
                held.close()
        if finished.status is None:
            raise ConversionError(f"{task.title}: the conversion did not end within {TIMEOUT / 3600:.0f} hours.")
        if finished.status != 0:
            killed = finished.status in (-9, 137)
            raise ConversionError(
                f"{task.title} could not be converted to ONNX:\n{last_lines(finished.output)}",
                hint="Its weights have to fit this machine's memory twice, in single precision."
                if killed
                else "Another engine may serve it as it is: [model] engine.",
            )
        with storing(work):
            return _taken(work, task, session)


def _fill(work: Path, task: LanguageTask) -> None:
    """The sandbox's folder: the program, the model and the request."""
    inside = work / "lightship" / "optimize" / "writing"
    inside.mkdir(parents=True)
    for path in _program():
        shutil.copyfile(path, inside / path.name)
    for folder in ("out", "tmp", "model"):
        (work / folder).mkdir()
    for path in task.files:
        target = work / "model" / path.relative_to(task.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    request = {"precision": task.precision, "gguf": task.gguf, "first_text": task.first_text}
    (work / "request.json").write_bytes(msgspec.json.encode(request))


def _taken(work: Path, task: LanguageTask, session: Session) -> ConvertedLanguageModel:
    """What the sandbox left, of which nothing is believed: files go to the cache under their own digests."""
    try:
        result = read_result(work, task.title)
        if isinstance(refused := result.get("refused"), str):
            raise ConversionError(
                f"{task.title} is not converted to ONNX: {_shown(refused)}.",
                hint="Another engine may serve it as it is: [model] engine.",
            )
        names, text = result.get("files"), result.get("text")
        if not isinstance(text, str) or not isinstance(names, list) or not 0 < len(names) <= _MOST_FILES:
            raise ConversionError(f"{task.title}: the conversion left no result that can be read.")
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            raise ConversionError(f"{task.title}: the conversion left files with names that no model has.")
        files = tuple(_stored(work / "out", name, task, session) for name in sorted(set(names)))
    except SourceBuildError as error:
        raise ConversionError(f"{task.title}: the conversion left no result that can be read: {error}.") from error
    return ConvertedLanguageModel(files, text)


def _stored(folder: Path, name: str, task: LanguageTask, session: Session) -> ConvertedFile:
    with open_left(folder, name, task.title) as file, session.cache.new_blob() as blob:
        while piece := file.read(CHUNK):
            blob.write(piece)
    return ConvertedFile(name, blob.digest, blob.size)


def _shown(text: str) -> str:
    """What the sandbox said, for a terminal."""
    lines = text[:_MOST_SHOWN].splitlines()
    return "\n".join("".join(each if each.isprintable() else " " for each in line) for line in lines)
