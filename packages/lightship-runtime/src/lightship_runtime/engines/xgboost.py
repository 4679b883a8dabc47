"""XGBoost models in the library's own formats (JSON, UBJSON and the older binary one).

A file that `XGBClassifier` saved says so in its attributes, and gets class numbers and probabilities as that class
would give them; any other file gets what `Booster` predicts. Neither needs scikit-learn.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

from lightship_runtime.engines.arrays import matrix
from lightship_runtime.engines.engine import (
    Engine,
    Fork,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
)
from lightship_runtime.engines.specs import learnt, rows_spec


class XGBoostEngine(Engine):
    """An `xgboost.Booster`, which uses all CPUs for each prediction.

    A booster hangs in a forked child (dmlc/xgboost#8040), so each process loads its own.
    """

    packages: ClassVar[tuple[str, ...]] = ("numpy", "xgboost")
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = "never"

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        names = booster.feature_names
        features = int(booster.num_features())
        self._classifier = _is_classifier(booster)
        # The trees that early stopping found best, as the scikit-learn interface takes them; else all.
        best = booster.attr("best_iteration")
        self._rounds = (0, int(best) + 1) if best is not None else (0, 0)
        self._signature = Signature(
            kind="rows",
            features=features,
            names=tuple(map(str, names)) if names else None,
            probabilities=self._classifier,
            inputs=(rows_spec(features),),
            example=[0.0] * features,
        )
        self._signature = learnt(self._signature, self.predict)
        if self._classifier and len(self._signature.outputs) == 2:
            self._signature = replace(self._signature, classes=tuple(range(self._signature.outputs[1].shape[1])))

    @classmethod
    def load(cls, source: ModelSource) -> XGBoostEngine:
        import xgboost

        booster = xgboost.Booster({"nthread": source.threads})
        booster.load_model(str(source.path))
        return cls(booster)

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        import numpy

        scores = self._booster.inplace_predict(
            matrix(instances, self._signature),
            iteration_range=self._rounds,
            validate_features=False,  # the columns' number and order were checked already
        )
        if not self._classifier:
            return Prediction(scores)
        if scores.ndim == 1:
            scores = numpy.vstack([1.0 - scores, scores]).T
        if not options.probabilities:
            return Prediction(scores.argmax(axis=1))
        return Prediction(scores.argmax(axis=1), scores, list(range(scores.shape[1])))

    def set_threads(self, threads: int) -> None:
        self._booster.set_param({"nthread": threads})


def _is_classifier(booster: Any) -> bool:
    """Whether the scikit-learn interface saved a classifier whose scores are probabilities."""
    attributes = json.loads(booster.attr("scikit_learn") or "{}")
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    return attributes.get("_estimator_type") == "classifier" and objective in ("binary:logistic", "multi:softprob")
