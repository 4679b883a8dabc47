"""A user's own Python file: `load()` makes the model once, `predict(model, instances)` answers a batch.

    def load():                          # optional
        return Tagger("weights.bin")

    def predict(model, instances):       # or predict(instances), where there is no load()
        return [model.tag(text) for text in instances]

The file is run with the app's directory as working directory and on sys.path. One prediction runs at a time unless
`concurrency` says otherwise. A ValueError raised by predict() is answered as the client's mistake.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from lightship_runtime.engines.engine import Engine, Instances, ModelSource, Options, Prediction, Signature
from lightship_runtime.errors import StartError


class PythonEngine(Engine):
    """Functions of a user's file."""

    packages: ClassVar[tuple[str, ...]] = ()
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)

    def __init__(self, predict: Callable[[Any], Any]) -> None:
        self._predict = predict

    @classmethod
    def load(cls, source: ModelSource) -> PythonEngine:
        name = source.path.stem
        spec = importlib.util.spec_from_file_location(name, source.path)
        if spec is None or spec.loader is None or not source.path.is_file():
            raise StartError(f"{source.model.path} is not a Python file that can be imported.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # as an import would, so that the file's classes can be pickled
        spec.loader.exec_module(module)
        predict = getattr(module, "predict", None)
        load = getattr(module, "load", None)
        if not callable(predict):
            raise StartError(
                f"{source.model.path} has no function predict().",
                hint="Write `def predict(model, instances):` and return one prediction per instance.",
            )
        if inspect.iscoroutinefunction(predict) or inspect.iscoroutinefunction(load):
            raise StartError(
                f"{source.model.path}: load() and predict() must be plain functions.", hint="Remove `async`."
            )
        if not callable(load):
            return cls(predict)
        model = load()
        if _positional(predict) < 2:
            return cls(predict)  # load() has put the model where predict() finds it
        return cls(lambda instances: predict(model, instances))

    @property
    def signature(self) -> Signature:
        return Signature()

    def predict(self, instances: Instances, options: Options) -> Prediction:
        del options  # probabilities are refused by the signature
        predictions = self._predict(instances)
        if hasattr(predictions, "tolist"):
            predictions = predictions.tolist()
        if isinstance(predictions, tuple):
            predictions = list(predictions)
        if not isinstance(predictions, list):
            kind = type(predictions).__name__
            raise RuntimeError(f"predict() gave a {kind}, not a list with one prediction per instance")
        return Prediction(predictions)


def _positional(function: Callable[..., Any]) -> int:
    """How many positional arguments a function takes; any number counts as two."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 2
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
