"""What an engine is: it loads one model and predicts for a batch of instances."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

from lightship_runtime.config import ModelFile
from lightship_runtime.errors import IntegrityError, StartError

_CHUNK = 1 << 20  # bytes


class BadInstances(ValueError):
    """Instances that do not fit the model. The message is sent to the client: it never quotes values."""


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    Attributes:
        rows: Whether an instance is a row of a table; else it may be anything, such as a text.
        features: Columns of a row, where the model says.
        names: The columns' names, where the model was trained with named columns.
        probabilities: Whether it can give one probability per class.
    """

    rows: bool
    features: int | None = None
    names: tuple[str, ...] | None = None
    probabilities: bool = False


@dataclass(frozen=True)
class Prediction:
    """One prediction per instance, in order; where asked for, probabilities per instance and their classes."""

    predictions: list[Any]
    probabilities: list[Any] | None = None
    classes: list[Any] | None = None


@dataclass(frozen=True)
class ModelSource:
    """The model's file as an engine gets it, and how many threads (whole CPUs) it may use."""

    model: ModelFile
    path: Path
    threads: int

    @contextmanager
    def verified(self) -> Iterator[BinaryIO]:
        """Open a file that can run code when it is loaded: only if it is the one the image was built with.

        What was hashed and what is loaded is one open file, so that it cannot be exchanged in between.
        """
        if self.model.sha256 is None:
            raise IntegrityError(
                f"{self.model.path} is a {self.model.format} file, which can run code when it is loaded, "
                "and no sha256 was recorded for it.",
                hint="Build the image again; the builder records it. Or save the model as skops or ONNX.",
            )
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise self.unreadable(error) from error
        with file:
            hashed = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                hashed.update(chunk)
            if hashed.hexdigest() != self.model.sha256:
                raise IntegrityError(
                    f"{self.model.path} is not the file that the image was built with: its sha256 is "
                    f"{hashed.hexdigest()}, recorded was {self.model.sha256}. It was not loaded.",
                    hint="Build the image again with this model, or put the original file back.",
                )
            file.seek(0)
            yield file

    def unreadable(self, error: OSError) -> StartError:
        """The error for people, for an operating system error met on this file."""
        return StartError(f"Could not read the model {self.model.path}: {error.strerror or error}.")


class Engine(Protocol):
    """A loaded model. `predict` may be called from several threads at once only where `concurrent` is true.

    Attributes:
        packages: What is imported before the model is loaded, so that the log tells the two apart.
        concurrent: Whether several predictions at once are safe and help; false where the library runs each
            prediction on all CPUs anyway, and for code that was perhaps never meant for it.
        refused: Exceptions of `predict` that mean "this input is wrong"; any other one is a failure of the model.
    """

    packages: ClassVar[tuple[str, ...]]
    concurrent: ClassVar[bool]
    refused: ClassVar[tuple[type[Exception], ...]]

    @classmethod
    def load(cls, source: ModelSource) -> Engine:
        """Load the model. Raises StartError with what to do, or the library's own error."""
        ...

    @property
    def signature(self) -> Signature: ...

    def predict(self, instances: list[Any], *, probabilities: bool) -> Prediction:
        """Predict for all instances at once; as many predictions as instances, in order."""
        ...
