"""scikit-learn models, and whatever else has `predict` and was saved with joblib, pickle or skops."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from lightship_runtime.engines.arrays import table
from lightship_runtime.engines.engine import Engine, Instances, ModelSource, Options, Prediction, Signature
from lightship_runtime.errors import StartError


class SklearnEngine(Engine):
    """An estimator or pipeline. Predictions at once are safe: fitted estimators do not change."""

    packages: ClassVar[tuple[str, ...]] = ("sklearn", "joblib")
    concurrent: ClassVar[bool] = True
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError, TypeError, OverflowError)

    def __init__(self, model: Any) -> None:
        self._model = model
        names = getattr(model, "feature_names_in_", None)
        features = getattr(model, "n_features_in_", None)
        self._signature = Signature(
            kind="any" if features is None else "rows",
            features=None if features is None else int(features),
            names=None if names is None else tuple(map(str, names)),
            probabilities=hasattr(model, "predict_proba"),
        )

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
        return cls(model)

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        if not self._signature.rows and all(isinstance(instance, str) for instance in instances):
            batch: Any = instances  # texts: a vectorizer is the first step
        else:
            batch = table(instances, self._signature)
        predictions = _plain(self._model.predict(batch))
        if not options.probabilities:
            return Prediction(predictions)
        classes = getattr(self._model, "classes_", None)
        return Prediction(
            predictions,
            _plain(self._model.predict_proba(batch)),
            None if classes is None else _plain(classes),
        )


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


def _plain(values: Any) -> list[Any]:
    """Lists and scalars of Python, from an array, a DataFrame, or the list of arrays of a multi-output classifier."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if hasattr(values, "toarray"):
        values = values.toarray()
    if isinstance(values, list):
        return [value.tolist() if hasattr(value, "tolist") else value for value in values]
    plain: list[Any] = values.tolist()
    return plain
