"""A user's own Python file: `load()` makes the model once, `predict()` answers.

    def load():                                  # optional; may be async
        return Tagger("weights.bin")

    def predict(model, instances):               # a batch; or predict(instances), where there is no load()
        return [model.tag(text) for text in instances]

    def predict(model, instance):                # called `instance`: one at a time
        return model.tag(instance)

    async def predict(model, instance):          # the instances of a batch run at once
        return await model.ask(instance)

    def predict(model, instance):                # a generator, sync or async: each part is sent as it comes
        yield from model.words(instance)

A parameter called `parameters` is given what the request says under that name. The file may set `example`, one
instance for the page and the schema, and `kind`: rows, tensor, text, image, audio or any. It is run with the app's
directory as working directory and on sys.path. One prediction runs at a time unless `concurrency` says otherwise. A
ValueError raised by predict() is answered as the client's mistake.

`dimensions = 384` in a file of `kind = "text"` says that predict() gives a vector of that length for each text: it
can then be asked for embeddings. A file with generate() in place of predict() writes text: see `python_generation`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, get_args

from lightship_runtime.engines.code import run_file
from lightship_runtime.engines.engine import (
    Engine,
    Fork,
    Instances,
    Kind,
    ModelSource,
    Options,
    Prediction,
    Signature,
    TensorSpec,
)
from lightship_runtime.engines.event_loop import EventLoop
from lightship_runtime.errors import StartError


class PythonEngine(Engine):
    """Functions of a user's file. What they start (threads, connections, pools) is unknown, so no forks."""

    packages: ClassVar[tuple[str, ...]] = ()
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = "never"

    def __init__(
        self, function: Callable[..., Any], model: tuple[Any, ...], loop: EventLoop | None, signature: Signature
    ) -> None:
        names = _positional(function)
        self._function = function
        self._loop = loop
        # Where predict takes one argument only, load() has put the model where predict() finds it.
        self._before = model if len(names) > 1 or names == ["*"] else ()
        self._singly = names[-1:] == ["instance"] or _generates(function)
        self._parameters = "parameters" in inspect.signature(function).parameters
        self._generates = _generates(function)
        self._async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        self._signature = signature

    @classmethod
    def load(cls, source: ModelSource) -> Engine:
        shown = source.model.path
        module = run_file(source.path, shown)
        predict, load = getattr(module, "predict", None), getattr(module, "load", None)
        if predict is None and callable(getattr(module, "generate", None)):
            from lightship_runtime.engines.python_generation import PythonGenerationEngine

            return PythonGenerationEngine.of(module, shown)
        if not callable(predict):
            raise StartError(
                f"{shown} has no function predict().",
                hint="Write `def predict(model, instances):` and return one prediction per instance.",
            )
        if not _positional(predict):
            raise StartError(
                f"{shown}: predict() takes no instances.", hint="Write `def predict(model, instances):`."
            )
        kind = getattr(module, "kind", "any")
        if kind not in get_args(Kind):
            raise StartError(f"{shown}: kind must be one of {', '.join(get_args(Kind))}.")
        is_async = any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (predict, load))
        loop = EventLoop() if is_async else None
        model: tuple[Any, ...] = ()
        if callable(load):
            loaded = load()
            model = (loop.wait(loaded) if loop is not None and inspect.isawaitable(loaded) else loaded,)
        return cls(predict, model, loop, _signature(module, kind, shown))

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def streams(self) -> bool:
        return self._generates

    def predict(self, instances: Instances, options: Options) -> Prediction:
        if self._generates:
            parts = [list(self.stream(instance, options)) for instance in instances]
            return Prediction([_together(one) for one in parts])
        if not self._singly:
            return Prediction(_predictions(self._call(instances, options)))
        if self._loop is None:
            return Prediction([self._call(instance, options) for instance in instances])
        return Prediction(self._loop.wait_for_all([self._started(instance, options) for instance in instances]))

    def stream(self, instance: Any, options: Options) -> Iterator[Any]:
        parts = self._started(instance, options)
        if self._loop is not None:
            parts = self._loop.iterate(parts)
        try:
            yield from parts
        finally:
            parts.close()

    def _started(self, given: Any, options: Options) -> Any:
        more = {"parameters": dict(options.parameters)} if self._parameters else {}
        return self._function(*self._before, given, **more)

    def _call(self, given: Any, options: Options) -> Any:
        result = self._started(given, options)
        return self._loop.wait(result) if self._loop is not None and self._async else result


def _signature(module: Any, kind: Any, shown: str) -> Signature:
    dimensions = getattr(module, "dimensions", None)
    example = getattr(module, "example", None)
    if dimensions is None:
        return Signature(kind=kind, example=example)
    if kind != "text" or not isinstance(dimensions, int) or dimensions < 1:
        raise StartError(f'{shown}: dimensions is the length of a text\'s vector, in a file of kind = "text".')
    return Signature(
        kind=kind,
        inputs=(TensorSpec("input", "BYTES", (-1,)),),
        outputs=(TensorSpec("predictions", "FP32", (-1, dimensions)),),
        example=example,
    )


def _predictions(values: Any) -> Instances:
    """What predict() gave for a batch. Raises RuntimeError where it is nothing that has one entry per instance."""
    if isinstance(values, tuple):
        return list(values)
    if isinstance(values, list):
        return values
    if type(values).__name__ == "ndarray" and values.ndim:
        return values  # type: ignore[no-any-return]
    if hasattr(values, "tolist") and isinstance(listed := values.tolist(), list):
        return listed
    kind = type(values).__name__
    raise RuntimeError(f"predict() gave a {kind}, not a list with one prediction per instance")


def _together(parts: list[Any]) -> Any:
    """A stream's parts as one answer: texts are joined, other parts are listed."""
    return "".join(parts) if parts and all(isinstance(part, str) for part in parts) else parts


def _generates(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _positional(function: Callable[..., Any]) -> list[str]:
    """The positional arguments that a function is given: without `parameters`, ["*"] for any number of them."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters):
        return ["*"]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in positional and one.name != "parameters"]
