"""scikit-learn models, and whatever else has `predict` and was saved with joblib, pickle or skops.

Each prediction runs in one thread as far as scikit-learn's own jobs go (`n_jobs`): starting threads for a batch costs
more than they save, and makes sums over trees depend on chance. BLAS and OpenMP use the threads they are given.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from lightship_runtime.engines.arrays import matrix, table
from lightship_runtime.engines.engine import (
    BadInstances,
    Engine,
    Fork,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
)
from lightship_runtime.engines.sklearn_forest import quick_forest
from lightship_runtime.engines.sklearn_signature import sklearn_signature
from lightship_runtime.errors import StartError

_MANY = 100_000  # objects of a model that are looked at for jobs of their own


class SklearnEngine(Engine):
    """An estimator or pipeline. Predictions at once are safe: fitted estimators do not change.

    Its OpenMP loops (HistGradientBoosting, neighbours and others) start a pool that does not survive a fork; with one
    thread there is none.
    """

    packages: ClassVar[tuple[str, ...]] = ("sklearn", "joblib")
    # Starting BLAS threads takes half of numpy's import; `set_threads` raises them once the model is there.
    environment: ClassVar[Mapping[str, str]] = {"OPENBLAS_NUM_THREADS": "1"}
    # Two fifths of the time that importing scikit-learn takes. scipy.stats is there for functions that fitting and
    # scoring call; the other two because scipy imports all names of numpy.
    deferred: ClassVar[tuple[str, ...]] = ("scipy.stats", "numpy.f2py", "numpy.testing")
    concurrent: ClassVar[bool] = True
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError, TypeError, OverflowError)
    fork: ClassVar[Fork] = "one thread"

    def __init__(self, model: Any) -> None:
        self._model = model
        classes = getattr(model, "classes_", None)
        self._classes = None if classes is None else _listed(classes)
        self._forest = quick_forest(model)
        self._signature = Signature()
        self._signature = sklearn_signature(model, self.predict, self._assume)

    @classmethod
    def load(cls, source: ModelSource) -> SklearnEngine:
        with warnings.catch_warnings():
            # Of scikit-learn 1.3 and later: a model of another version may predict wrongly without any error.
            warnings.filterwarnings("always", message="Trying to unpickle estimator")
            model = _load_skops(source) if source.model.format == "skops" else _unpickle(source)
        if not hasattr(model, "predict"):
            raise StartError(
                f"{source.model.path} holds a {type(model).__name__}, which has no predict().",
                hint="Save the estimator or pipeline itself, or serve a Python file that has load() and predict().",
            )
        _one_job(model)
        return cls(model)

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        if self._forest is not None and (found := self._quick(instances)) is not None:
            predictions, probabilities = found
            return Prediction(predictions, *((probabilities, self._classes) if options.probabilities else ()))
        kind = self._signature.kind
        if kind == "text" or (kind == "any" and all(isinstance(instance, str) for instance in instances)):
            batch: Any = instances  # texts: a vectorizer is the first step
        else:
            batch = table(instances, self._signature)
        predictions = _array(self._model.predict(batch))
        if not options.probabilities:
            return Prediction(predictions)
        return Prediction(predictions, _array(self._model.predict_proba(batch)), self._classes)

    def _quick(self, instances: Instances) -> tuple[Any, Any] | None:
        try:
            rows = matrix(instances, self._signature)
        except BadInstances:
            return None
        return self._forest.predict(rows) if self._forest is not None else None

    def set_threads(self, threads: int) -> None:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:  # scikit-learn needs it, but a model that only looks like one may come without
            return
        threadpool_limits(threads)

    def _assume(self, signature: Signature) -> None:
        """While the signature is found out, predictions are made as it says so far."""
        self._signature = signature


def _unpickle(source: ModelSource) -> Any:
    import joblib

    with source.verified() as file:
        try:
            return joblib.load(file)  # reads what pickle.dump wrote as well
        except (AttributeError, ImportError) as error:
            raise StartError(
                f"{source.model.path} needs something that is not in the image: {error}.",
                hint="A class of your own must be in a module of the project, not in the script or notebook that "
                "saved the model; a class of a package needs that package in the requirements, in the version "
                "that the model was saved with.",
            ) from error


def _load_skops(source: ModelSource) -> Any:
    try:
        from skops import io
        from skops.io.exceptions import UntrustedTypesFoundException
    except ImportError as error:
        raise StartError(
            f"{source.model.path} needs the package skops, which cannot be imported: {error}.",
            hint="Add skops to the requirements and build again.",
        ) from error
    try:
        return io.load(source.path, trusted=list(source.model.trusted_types))
    except UntrustedTypesFoundException as error:
        raise StartError(
            f"{source.model.path} holds types that skops does not trust by itself: {error}",
            hint="Name the types that you trust in trusted_types.",
        ) from error
    except OSError as error:
        raise source.unreadable(error) from error


def _one_job(model: Any) -> None:
    """Have every part of a model work in the thread that asks it. Looks into what scikit-learn's own objects hold."""
    pending: list[Any] = [model]
    seen: set[int] = set()
    while pending and len(seen) < _MANY:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            pending.extend(one.values())
        elif isinstance(one, (list, tuple)):
            pending.extend(one)
        elif type(one).__module__.partition(".")[0] in ("sklearn", "imblearn"):
            inside = getattr(one, "__dict__", {})
            if inside.get("n_jobs") not in (None, 1):
                one.n_jobs = 1
            pending.extend(inside.values())


def _array(values: Any) -> Instances:
    """One prediction per instance, from an array, a DataFrame, a sparse matrix, or several classifiers' outputs."""
    if isinstance(values, list):
        if not values or not hasattr(values[0], "shape"):
            return values
        # Probabilities of several outputs, each an array of its own: together they are one instance's.
        if len({part.shape for part in values}) == 1:
            import numpy

            return numpy.stack(values, axis=1)
        return [[part[number].tolist() for part in values] for number in range(len(values[0]))]
    for name in ("to_numpy", "toarray"):
        if convert := getattr(values, name, None):
            return convert()  # type: ignore[no-any-return]
    return list(values) if isinstance(values, tuple) else values


def _listed(classes: Any) -> list[Any]:
    """A classifier's labels; of several outputs, one list for each."""
    if isinstance(classes, list):
        return [one.tolist() if hasattr(one, "tolist") else one for one in classes]
    listed: list[Any] = classes.tolist() if hasattr(classes, "tolist") else list(classes)
    return listed
