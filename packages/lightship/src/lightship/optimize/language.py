"""From a language model to a folder of ONNX Runtime GenAI: looked up where it was converted before, else made and
tried in the sandbox."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lightship.bases.base import Base
from lightship.file_digests import known_digest
from lightship.layers import Compression
from lightship.layers.environment import Environment
from lightship.layers.runtime import RuntimeRecipe
from lightship.lock import LockedWheel
from lightship.optimize.sandboxed import ConversionError, Program, digests, run_program, take
from lightship.session import Session

RECIPE = 2  # part of every key: raise it when the same model would now become other files
TIMEOUT = 6 * 3600.0  # seconds; models of some billion parameters take minutes, and more memory than there may be
_RECORDS = "converted-language-models"
_PROGRAM = "writing"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MOST_FILES = 200
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
        digests(_PROGRAM),
        RuntimeRecipe(Environment("/usr/bin/python3", "3"), None).key,
        [[file.relative_to(task.folder).as_posix(), known_digest(file, session.cache)] for file in task.files],
        [task.gguf is not None, task.precision, task.first_text],
        sorted(wheel.sha256 for wheel in task.wheels),
        task.base_key,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _recorded(key: str, session: Session) -> ConvertedLanguageModel | None:
    record = session.cache.read_record(_RECORDS, key)
    try:
        known = msgspec.convert(record, ConvertedLanguageModel) if record is not None else None
    except msgspec.ValidationError:
        return None
    whole = known and all(session.cache.has_blob(file.digest, file.size) for file in known.files)
    return known if whole else None


def _convert(task: LanguageTask, session: Session, compression: Compression) -> ConvertedLanguageModel:
    program = Program(
        title=task.title,
        name=_PROGRAM,
        files={f"model/{path.relative_to(task.folder).as_posix()}": path for path in task.files},
        request={"precision": task.precision, "gguf": task.gguf, "first_text": task.first_text},
        wheels=task.wheels,
        base=task.base,
        timeout=TIMEOUT,
        hint="Another engine may serve it as it is: [model] engine.",
        killed="Its weights have to fit this machine's memory twice, in single precision.",
        environment=_OFFLINE,
    )
    with run_program(program, session, compression) as (folder, result):
        names, text = result.get("files"), result.get("text")
        if not isinstance(text, str) or not isinstance(names, list) or not 0 < len(names) <= _MOST_FILES:
            raise ConversionError(f"{task.title}: the conversion left no result that can be read.")
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            raise ConversionError(f"{task.title}: the conversion left files with names that no model has.")
        files = (ConvertedFile(name, *take(folder, name, task.title, session)) for name in sorted(set(names)))
        return ConvertedLanguageModel(tuple(files), text)
