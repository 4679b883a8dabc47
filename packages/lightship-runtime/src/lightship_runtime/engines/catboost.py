"""CatBoost models in the library's own formats (cbm, JSON). A classifier's file keeps its labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from lightship_runtime.engines.arrays import exact_rows, matrix, objects
from lightship_runtime.engines.engine import (
    BadInstances,
    Engine,
    Fork,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
    TensorSpec,
)
from lightship_runtime.engines.specs import learnt, rows_spec


class CatBoostEngine(Engine):
    """A `catboost.CatBoost`, which uses all CPUs for each prediction."""

    packages: ClassVar[tuple[str, ...]] = ("catboost",)
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError, TypeError)
    fork: ClassVar[Fork] = "one thread"  # its threads do not survive; with one it starts none

    def __init__(self, model: Any, threads: int) -> None:
        import catboost

        self._model = model
        self._threads = threads
        self._error: type[Exception] = catboost.CatBoostError
        self._classes: list[Any] = model.classes_.tolist() if len(model.classes_) else []
        names = tuple(map(str, model.feature_names_ or ()))
        self._categories = sorted({*model.get_cat_feature_indices(), *model.get_text_feature_indices()})
        self._signature = Signature(
            kind="rows",
            features=len(names) or None,
            names=names or None,
            probabilities=bool(self._classes),
            classes=tuple(self._classes) or None,
        )
        if names:
            example: list[Any] = [0.0] * len(names)
            for column in self._categories:
                example[column] = "text"
            self._signature = replace(self._signature, inputs=self._inputs(names), example=example)
            self._signature = learnt(self._signature, self.predict)

    @classmethod
    def load(cls, source: ModelSource) -> CatBoostEngine:
        import catboost

        model = catboost.CatBoost()
        model.load_model(str(source.path), format="json" if source.path.suffix == ".json" else "cbm")
        return cls(model, source.threads)

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        rows = self._rows(instances)
        try:
            if not self._classes:
                return Prediction(self._model.predict(rows, thread_count=self._threads))
            labels = self._model.predict(rows, prediction_type="Class", thread_count=self._threads)
            if labels.ndim == 2 and labels.shape[1] == 1:  # several classes come as a column
                labels = labels[:, 0]
            if not options.probabilities:
                return Prediction(labels)
            scores = self._model.predict(rows, prediction_type="Probability", thread_count=self._threads)
        except self._error as error:
            raise ValueError("CatBoost refused the rows") from error
        return Prediction(labels, scores, self._classes)

    def set_threads(self, threads: int) -> None:
        self._threads = threads

    def _rows(self, instances: Instances) -> Any:
        """Numbers as an array; where there are categories, rows of objects whose categories are whole or texts."""
        if not self._categories:
            return matrix(instances, self._signature)
        rows = exact_rows(instances, self._signature)
        for number, row in enumerate(rows, 1):
            for column in self._categories:
                if type(row[column]) not in (int, str):
                    name = self._signature.names[column] if self._signature.names else column
                    raise BadInstances(f"Row {number}: the category {name!r} must be a text or a whole number.")
        return objects(rows)

    def _inputs(self, names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
        if not self._categories:
            return (rows_spec(len(names)),)
        return tuple(
            TensorSpec(name, "BYTES" if column in self._categories else "FP64", (-1,))
            for column, name in enumerate(names)
        )
