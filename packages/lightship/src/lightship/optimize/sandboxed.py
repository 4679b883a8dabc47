"""One conversion in the sandbox that packages are built in: a program of ours and a model go in, files come out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lightship.bases.base import Base
from lightship.building.failure import SourceBuildError, last_lines
from lightship.building.leavings import open_left, read_result
from lightship.building.sandbox import sandbox_root
from lightship.cache import CHUNK, storing
from lightship.errors import ProjectError
from lightship.layers import EPOCH, Compression
from lightship.layers.environment import PREFIX, PYTHON, Environment
from lightship.layers.runtime import RuntimeRecipe
from lightship.lock import LockedWheel
from lightship.run.sandbox import WORK, run_sandboxed
from lightship.session import Session

_MOST_SHOWN = 4000  # characters of a reason
_KILLED = (-9, 137)  # as the kernel does where memory is short
_ENVIRONMENT = {
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
class Program:
    """A program of ours, and what it is given.

    Attributes:
        title: The model's path, for people.
        name: Of the program's package in this folder; it may import nothing else of the builder's.
        files: The files that it finds, by their paths in its folder.
        request: What it reads as request.json.
        wheels: The environment that it runs in, all of them in the cache once `base` was called.
        base: The base that it runs on, waited for only here.
        timeout: Seconds.
        hint: What to do where it fails or refuses, without a word of its own.
        killed: What to do where the kernel has ended it; None for `hint`.
        environment: Variables besides those of every conversion.
    """

    title: str
    name: str
    files: Mapping[str, Path]
    request: Mapping[str, Any]
    wheels: tuple[LockedWheel, ...]
    base: Callable[[], Base]
    timeout: float
    hint: str
    killed: str | None = None
    environment: Mapping[str, str] | None = None


def sources(name: str) -> Sequence[Path]:
    """The program's own files."""
    return sorted(Path(__file__).with_name(name).glob("*.py"))


def digests(name: str) -> list[list[str]]:
    """The same for the key of a result: another program may make another file."""
    return [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in sources(name)]


@contextmanager
def run_program(
    program: Program, session: Session, compression: Compression
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Run it. Gives the folder that it has written, and what it says of it: nothing of either is to be believed.

    Raises: `ConversionError` where it fails, refuses, takes too long or leaves what cannot be read, also while the
        folder is read; `EngineError` where there can be no sandbox; `StorageError`.
    """
    base = program.base()
    environment = Environment(base.interpreter.path, base.interpreter.version)
    with session.cache.temporary_directory() as work:
        with storing(work):
            _fill(work, program)
        runtime = RuntimeRecipe(environment, None)
        root, held = sandbox_root(base, program.wheels, session, compression, more=[runtime])
        try:
            command = [PYTHON, "-s", "-m", f"lightship.optimize.{program.name}"]
            variables = {**_ENVIRONMENT, **(program.environment or {})}
            finished = run_sandboxed(root, command, variables, work, timeout=program.timeout)
        finally:
            if held:
                held.close()
        if finished.status is None:
            raise ConversionError(f"{program.title}: the conversion did not end within {_long(program.timeout)}.")
        if finished.status != 0:
            raise ConversionError(
                f"{program.title} could not be converted to ONNX:\n{last_lines(finished.output)}",
                hint=program.killed if program.killed and finished.status in _KILLED else program.hint,
            )
        try:
            result = read_result(work, program.title)
            if isinstance(refused := result.get("refused"), str):
                hint = _shown(result["hint"]) if isinstance(result.get("hint"), str) else program.hint
                raise ConversionError(f"{program.title} is not converted to ONNX: {_shown(refused)}.", hint=hint)
            with storing(work):
                yield work / "out", result
        except (SourceBuildError, msgspec.ValidationError) as error:
            what = f"{program.title}: the conversion left no result that can be read: {error}."
            raise ConversionError(what) from error


def take(folder: Path, name: str, title: str, session: Session, *, most: int | None = None) -> tuple[str, int]:
    """A file that was left, into the cache: its digest, `sha256:<hex>`, and its size in bytes, `most` at most.

    Raises: `ConversionError`; `SourceBuildError` where there is no such file.
    """
    with open_left(folder, name, title) as file, session.cache.new_blob() as blob:
        while piece := file.read(CHUNK):
            blob.write(piece)
            if most is not None and blob.size > most:
                raise ConversionError(f"{title}: the converted model is larger than {most >> 30} GiB.")
    return blob.digest, blob.size


def _fill(work: Path, program: Program) -> None:
    """The sandbox's folder: the program, what it is given, and where it writes."""
    inside = work / "lightship" / "optimize" / program.name
    inside.mkdir(parents=True)
    for path in sources(program.name):
        shutil.copyfile(path, inside / path.name)
    for folder in ("out", "tmp"):
        (work / folder).mkdir()
    for name, path in program.files.items():
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (work / "request.json").write_bytes(msgspec.json.encode(program.request))


def _shown(text: str) -> str:
    """What the sandbox said, for a terminal: the model's own code may have written it."""
    lines = text[:_MOST_SHOWN].splitlines()
    return "\n".join("".join(each if each.isprintable() else " " for each in line) for line in lines)


def _long(seconds: float) -> str:
    return f"{seconds / 3600:.0f} hours" if seconds > 3600 else f"{seconds:.0f} seconds"
