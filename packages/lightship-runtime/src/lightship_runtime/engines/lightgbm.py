"""LightGBM models in the library's own text format.

The file does not say whether a classifier of the scikit-learn interface wrote it, nor what its labels were, so the
predictions are those of `Booster.predict`: probabilities of the positive class, or one per class.
"""

from __future__ import annotations

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


class LightGBMEngine(Engine):
    """A `lightgbm.Booster`, which uses all CPUs for each prediction."""

    packages: ClassVar[tuple[str, ...]] = ("lightgbm",)
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = "one thread"  # its OpenMP pool does not survive; with one thread there is none

    def __init__(self, booster: Any, threads: int) -> None:
        self._booster = booster
        self._threads = threads
        features = int(booster.num_feature())
        self._signature = Signature(
            kind="rows",
            features=features,
            names=tuple(map(str, booster.feature_name())),
            inputs=(rows_spec(features),),
            example=[0.0] * features,
        )
        self._signature = learnt(self._signature, self.predict)

    @classmethod
    def load(cls, source: ModelSource) -> LightGBMEngine:
        import lightgbm

        return cls(lightgbm.Booster(model_file=str(source.path)), source.threads)

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        del options  # probabilities are refused by the signature
        rows = matrix(instances, self._signature)
        return Prediction(self._booster.predict(rows, num_threads=self._threads))

    def set_threads(self, threads: int) -> None:
        self._threads = threads
