"""What Lightship knows of a model without loading it, and what a format must offer to be recognised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightship.models.language import Language
from lightship_runtime.config import EngineName

Verdict = Literal["safe", "unknown", "dangerous"]


@dataclass(frozen=True)
class Package:
    """A distribution that the model needs.

    Attributes:
        name: Its name on a package index: `scikit-learn`, not `sklearn`.
        version: The version that the model was saved with, where the file tells.
        reason: Why the model needs it, for people.
        minimum: The oldest version that can read the model, where only that is known.
    """

    name: str
    version: str | None
    reason: str
    minimum: str | None = None


@dataclass(frozen=True)
class Tensor:
    """A named input or output. A dimension is a number, a name such as `batch`, or None where it is free."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class PickleVerdict:
    """What a pickle would import when loaded, judged by name; nothing of it is ever imported here.

    Attributes:
        verdict: `safe`: only names of the known-safe list. `dangerous`: at least one name that runs programs,
            code or attribute look-ups. `unknown`: anything else, or a file that could not be read to its end.
        unknown: Names on neither list, as `module.name`, sorted.
        dangerous: Names on the list of dangerous ones, sorted.
        incomplete: Why reading stopped early, or None when the whole pickle was read.
    """

    verdict: Verdict
    unknown: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()
    incomplete: str | None = None


@dataclass(frozen=True)
class Model:
    """A model, as far as its files tell without being loaded.

    Attributes:
        path: The file or folder that was asked about.
        format: What it is: `joblib`, `onnx`, `gguf` ...
        engine: What runs it: sklearn, onnxruntime, xgboost, lightgbm, catboost, torch, transformers,
            sentence-transformers, onnxruntime-genai, transformers-generation, llamacpp or python.
        size: Bytes of all files together.
        dtype: The type that most of the weights have, such as `float32`.
        files: Every file that belongs to the model, for its layer; sorted.
        packages: The distributions that it needs, sorted by name.
        details: Facts for people, the most telling first.
        pickle: The verdict where loading means unpickling, else None.
        notes: Advice.
        inputs: Named inputs, where the format tells.
        outputs: Named outputs, where the format tells.
        code: The project's own Python files that loading it imports.
        needs_code: Whether the file holds weights alone, so that it cannot run without the user's code.
        task: For transformers folders: the pipeline's task that the architecture is made for, where there is one.
        language: For models that write text: how large they are, where their description says it.
    """

    path: Path
    format: str
    engine: EngineName
    size: int
    dtype: str | None
    files: tuple[Path, ...]
    packages: tuple[Package, ...]
    details: tuple[tuple[str, str], ...] = ()
    pickle: PickleVerdict | None = None
    notes: tuple[str, ...] = ()
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    code: tuple[Path, ...] = ()
    needs_code: bool = False
    task: str | None = None
    language: Language | None = None


@dataclass(frozen=True)
class Opening:
    """The start of a file: enough to recognise it. `head` holds its first 4 KiB, `size` is in bytes."""

    path: Path
    head: bytes
    size: int


@dataclass(frozen=True)
class Format:
    """One format of model files.

    Attributes:
        name: The format's name, for people.
        suffixes: The endings that its files usually have, for `find` and for damaged files.
        recognises: Whether the content says so. It may be certain (a magic number) or careful, never costly.
        read: Reads what the file tells. Raises ProjectError when it is damaged.
        certain: Whether the suffix alone makes a file a candidate; `.json` and `.txt` files may be anything.
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Opening], bool]
    read: Callable[[Path], Model]
    certain: bool = True


def dominant(bytes_by_dtype: dict[str, int]) -> str | None:
    """The type that holds most bytes; None where there are no weights."""
    return max(sorted(bytes_by_dtype), key=bytes_by_dtype.__getitem__) if bytes_by_dtype else None


def counted(number: int) -> str:
    """A count of parameters for people: 134.5 M, 8.03 B, 940."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
