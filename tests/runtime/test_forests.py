"""The quick way through a forest gives scikit-learn's own bits, or stands aside."""

from typing import Any

import numpy
import pytest
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)

from lightship_runtime.engines.sklearn_forest import quick_forest

X, CLASSES = make_classification(300, 8, n_informative=5, n_classes=3, random_state=1)
_, VALUES = make_regression(300, 8, random_state=1)
NAMES = numpy.array(["ant", "bee", "cat"])[CLASSES]


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(40, random_state=0).fit(X, NAMES),
        RandomForestClassifier(40, random_state=0, class_weight="balanced", max_depth=3).fit(X, CLASSES),
        ExtraTreesClassifier(25, random_state=0, bootstrap=True).fit(X, CLASSES > 0),
        RandomForestRegressor(30, random_state=0).fit(X, VALUES),
        ExtraTreesRegressor(30, random_state=0).fit(X, VALUES),
    ],
    ids=lambda model: type(model).__name__,
)
def test_it_gives_the_same_bits(model: Any) -> None:
    forest = quick_forest(model)
    assert forest is not None
    random = numpy.random.default_rng(3)
    for scale in (0.1, 1.0, 1e6):
        for count in (1, 2, 7, 200):
            rows = random.normal(scale=scale, size=(count, 8))
            found = forest.predict(rows)
            assert found is not None
            assert numpy.array_equal(found[0], model.predict(rows))
            if found[1] is not None:
                assert found[1].tobytes() == model.predict_proba(rows).tobytes()


def test_what_scikit_learn_would_refuse_is_left_to_it() -> None:
    forest = quick_forest(RandomForestClassifier(5, random_state=0).fit(X, CLASSES))
    assert forest is not None
    for value in (numpy.nan, numpy.inf, 1e300):
        rows = X[:2].copy()
        rows[1, 3] = value
        assert forest.predict(rows) is None
    assert forest.predict(X[:2, :7]) is None


def test_other_models_are_left_alone() -> None:
    class Mine(RandomForestClassifier):
        def predict(self, X: Any) -> Any:
            return 1 - super().predict(X)

    assert quick_forest(GradientBoostingClassifier(n_estimators=3).fit(X, CLASSES)) is None
    assert quick_forest(Mine(3).fit(X, CLASSES > 0)) is None
    assert quick_forest(RandomForestRegressor(3).fit(X, numpy.stack([VALUES, VALUES], 1))) is None


def test_a_forest_that_gives_other_bits_is_found_out() -> None:
    model = RandomForestClassifier(5, random_state=0).fit(X, CLASSES)
    model.predict_proba = lambda rows: RandomForestClassifier.predict_proba(model, rows) + 1e-17 + 1e-16
    assert quick_forest(model) is None
