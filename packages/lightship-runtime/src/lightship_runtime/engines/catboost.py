"""CatBoost models in the library's own formats (cbm, JSON). A classifier's file keeps its labels."""

from __future__ import annotations

from typing import Any, ClassVar

from lightship_runtime.engines.arrays import table
from lightship_runtime.engines.engine import Engine, Instances, ModelSource, Options, Prediction, Signature


class CatBoostEngine(Engine):
    """A `catboost.CatBoost`, which uses all CPUs for each prediction."""

    packages: ClassVar[tuple[str, ...]] = ("catboost",)
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError, TypeError)

    def __init__(self, model: Any, threads: int) -> None:
        self._model = model
        self._threads = threads
        self._classes: list[Any] = model.classes_.tolist() if len(model.classes_) else []
        names = tuple(map(str, model.feature_names_ or ()))
        self._signature = Signature(
            kind="rows", features=len(names) or None, names=names or None, probabilities=bool(self._classes)
        )

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
        rows = table(instances, self._signature)
        if not self._classes:
            return Prediction(self._model.predict(rows, thread_count=self._threads).tolist())
        labels = self._model.predict(rows, prediction_type="Class", thread_count=self._threads)
        if labels.ndim == 2 and labels.shape[1] == 1:  # several classes come as a column
            labels = labels[:, 0]
        if not options.probabilities:
            return Prediction(labels.tolist())
        scores = self._model.predict(rows, prediction_type="Probability", thread_count=self._threads)
        return Prediction(labels.tolist(), scores.tolist(), self._classes)
