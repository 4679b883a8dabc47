"""Estimators of a project's own: one that no converter knows, one that predicts something else than its parent."""

from __future__ import annotations

from typing import Any

import numpy
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression


class Majority(ClassifierMixin, BaseEstimator):
    """Always the most frequent class."""

    def fit(self, rows: Any, labels: Any) -> Majority:
        self.classes_, counts = numpy.unique(labels, return_counts=True)
        self.n_features_in_ = rows.shape[1]
        self.best_ = self.classes_[counts.argmax()]
        return self

    def predict(self, rows: Any) -> Any:
        return numpy.full(len(rows), self.best_)


class Doubled(LinearRegression):
    """Twice what a linear regression says, which a converter of linear regressions does not see."""

    def predict(self, rows: Any) -> Any:
        return 2 * super().predict(rows)
