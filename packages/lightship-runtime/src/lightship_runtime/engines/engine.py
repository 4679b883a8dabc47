"""What an engine is: it loads one model and predicts for a batch of instances."""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, TypeAlias

from lightship_runtime.config import ModelFile
from lightship_runtime.errors import IntegrityError, StartError

if TYPE_CHECKING:
    from numpy import ndarray

_CHUNK = 1 << 20  # bytes


class BadInstances(ValueError):
    """Instances that do not fit the model. The message is sent to the client: it never quotes values."""


Kind = Literal["rows", "tensor", "text", "image", "audio", "any"]
Fork = Literal["safe", "one thread", "never"]
Instances: TypeAlias = "list[Any] | ndarray[Any, Any]"
_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class TensorSpec:
    """One input or output as the Open Inference Protocol names it.

    Attributes:
        name: Of the input or output.
        datatype: BOOL, UINT8 to UINT64, INT8 to INT64, FP16, FP32, FP64 or BYTES.
        shape: Lengths, -1 where any will do; the first is the number of instances.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    Attributes:
        kind: What one instance is: a row of a table, a tensor (nested lists of numbers, or an object of tensors by
            name where there are several inputs), a text, an encoded image or sound (bytes), or any JSON value.
        features: Columns of a row, where the model says.
        names: The columns' names, where the model was trained with named columns.
        probabilities: Whether it can give one probability per class.
        classes: The classes, where the model says.
        inputs: As tensors; empty where nothing is known.
        outputs: As tensors, the predictions first; empty where nothing is known.
        example: One instance, as JSON, that the model can answer; None where nobody knows one.
    """

    kind: Kind = "any"
    features: int | None = None
    names: tuple[str, ...] | None = None
    probabilities: bool = False
    classes: tuple[Any, ...] | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    example: Any = None

    @property
    def rows(self) -> bool:
        """Whether an instance is a row of a table."""
        return self.kind == "rows"


@dataclass(frozen=True)
class Options:
    """What is wanted beside the predictions. Requests with equal options may share one call of `predict`.

    Attributes:
        probabilities: Whether to give one probability per class as well.
        parameters: What else the request says under `parameters`, such as candidate labels: the engine's own affair.
        tokens: Whether to count each text's tokens as well, where the engine can.
    """

    probabilities: bool = False
    parameters: Mapping[str, Any] = field(default_factory=lambda: _NO_PARAMETERS)
    tokens: bool = False


@dataclass(frozen=True)
class Prediction:
    """One prediction per instance, in order; where asked for, probabilities per instance and their classes.

    Each is a list of JSON values or an array with the instances first, so that formats of arrays need no lists.
    `tokens` are those of each text, where they were asked for and the engine counts them.
    """

    predictions: Instances
    probabilities: Instances | None = None
    classes: list[Any] | None = None
    tokens: list[int] | None = None


@dataclass(frozen=True)
class ModelSource:
    """The model's file as an engine gets it, and how many threads (whole CPUs) it may use."""

    model: ModelFile
    path: Path
    threads: int

    @property
    def app(self) -> Path:
        """The app's directory, to which the paths of the model are relative."""
        return Path(*self.path.parts[: len(self.path.parts) - len(PurePosixPath(self.model.path).parts)])

    @contextmanager
    def verified(self, *, risk: bool = True) -> Iterator[BinaryIO]:
        """Open a file that can run code when it is loaded: only if it is the one the image was built with.

        What was hashed and what is loaded is one open file, so that it cannot be exchanged in between. `trust` stands
        in for a sha256 that was not recorded, never for one that differs. A UserWarning names the risk, unless
        `risk` is false: for formats that hold code by design.
        """
        wanted, trusted = self.model.sha256, self.model.trust
        if wanted is None and not trusted:
            raise IntegrityError(
                f"{self.model.path} is a {self.model.format} file, which can run code when it is loaded, "
                "and no sha256 was recorded for it.",
                hint="Build the image again; the builder records it. Or save the model as skops or ONNX. If you made "
                "the file yourself, you may load it with trust.",
            )
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise self.unreadable(error) from error
        with file:
            if wanted is not None:
                self._check(file, wanted)
            if risk:
                why = (
                    "its sha256 is the recorded one" if wanted else "nothing but trust says that it is the right one"
                )
                warnings.warn(
                    f"{self.model.path} is a {self.model.format} file: loading it runs whatever code its author put "
                    f"there; {why}. skops, ONNX and safetensors files run none.",
                    stacklevel=4,
                )
            yield file

    def _check(self, file: BinaryIO, wanted: str) -> None:
        hashed = hashlib.sha256()
        buffer = memoryview(bytearray(_CHUNK))
        while count := file.readinto(buffer):  # type: ignore[attr-defined]  # a BufferedReader
            hashed.update(buffer[:count])
        if hashed.hexdigest() != wanted:
            raise IntegrityError(
                f"{self.model.path} is not the file that the image was built with: its sha256 is "
                f"{hashed.hexdigest()}, recorded was {wanted}. It was not loaded.",
                hint="Build the image again with this model, or put the original file back.",
            )
        file.seek(0)

    def unreadable(self, error: OSError) -> StartError:
        """The error for people, for an operating system error met on this file."""
        return StartError(f"Could not read the model {self.model.path}: {error.strerror or error}.")


class Engine(ABC):
    """A loaded model. `predict` may be called from several threads at once only where `concurrent` is true.

    Attributes:
        packages: What is imported before the model is loaded, so that the log tells the two apart.
        concurrent: Whether several predictions at once are safe and help; false where the library runs each
            prediction on all CPUs anyway, and for code that was perhaps never meant for it.
        refused: Exceptions of `predict` that mean "this input is wrong"; any other one is a failure of the model.
        environment: Variables that its packages must find when they are imported, where they are not set already.
        deferred: Modules that its libraries import and hardly ever use: imported when they are used (see `deferred`).
        fork: Whether a process may load the model, ask it, and then fork children that go on using it.
            "safe": always. "one thread": only while every thread pool is kept at one thread until the fork; the
            children then call `set_threads`. "never": each process has to load the model by itself.
        generates: Whether it writes text: a GenerationEngine.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    deferred: ClassVar[tuple[str, ...]] = ()
    environment: ClassVar[Mapping[str, str]] = _NO_PARAMETERS
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = "never"
    generates: ClassVar[bool] = False

    @classmethod
    def forking(cls) -> Fork:
        """`fork` on this machine: a library that finds a GPU here cannot be forked with it."""
        return cls.fork

    @classmethod
    @abstractmethod
    def load(cls, source: ModelSource) -> Engine:
        """Load the model. Raises StartError with what to do, or the library's own error."""

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """What the model takes and gives."""

    @abstractmethod
    def predict(self, instances: Instances, options: Options) -> Prediction:
        """Predict for all instances at once; as many predictions as instances, in order.

        Raises BadInstances, whose message may be sent to the client, or one of `refused`.
        """

    @property
    def batches(self) -> bool:
        """Whether the instances of several requests may be predicted in one call."""
        return True

    @property
    def slots(self) -> int:
        """How many calls of `predict` or `stream` it works on at once, each in a thread of its own."""
        return 1

    @property
    def streams(self) -> bool:
        """Whether `stream` is there for requests that ask for it."""
        return False

    def stream(self, instance: Any, options: Options) -> Iterator[Any]:
        """The parts of one answer as JSON values, as they come. Closing the iterator stops the work."""
        raise NotImplementedError

    def watch(self, lost: Callable[[str], None]) -> None:  # noqa: B027  # most engines end with their process
        """Call `lost` with the reason, from any thread, when nothing can be answered any more."""

    def set_threads(self, threads: int) -> None:  # noqa: B027  # most engines have nothing to set
        """Use so many threads from now on: called in a child after a fork."""
