"""Where a model decides: the thresholds of its trees, the ranges that its scaler saw, the categories it knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lightship_runtime.engines import Signature

_DEPTH = 6  # of an estimator's parts that are looked into
_MOST = 20_000  # values of one column
# Attributes of scikit-learn's estimators that hold one value, or one row of values, per column.
_PER_COLUMN = ("data_min_", "data_max_", "center_", "support_vectors_", "_fit_X", "cluster_centers_", "theta_")


def landmarks(model: Any, features: int) -> list[list[float]]:
    """Numbers of each column that matter to the model; none where nothing is known."""
    found: list[list[float]] = [[] for _ in range(features)]
    for column, value in _all(_first(model), _DEPTH):
        if 0 <= column < features and len(found[column]) < _MOST and abs(value) < 1e30:
            found[column].append(value)
    return found


def remembered_rows(model: Any, features: int) -> list[list[float]]:
    """Rows that the model was trained with and keeps: those of its neighbours, or its support vectors."""
    first = _first(model)
    for name in ("_fit_X", "support_vectors_"):
        values: Any = getattr(first, name, None)
        if getattr(values, "ndim", 0) == 2 and values.shape[1] == features and hasattr(values, "tolist"):
            return [list(map(float, row)) for row in values[:_MOST].tolist()]
    return []


def categories(model: Any, signature: Signature) -> dict[int, list[str]]:
    """The texts that an encoder knows, by column."""
    found: dict[int, list[str]] = {}
    for _, transformer, columns in getattr(_first(model), "transformers_", ()):
        encoder = _first(transformer)
        for column, known in zip(columns, getattr(encoder, "categories_", ()), strict=False):
            texts = [value for value in known if isinstance(value, str)]
            if texts:
                names = signature.names or ()
                position = names.index(column) if isinstance(column, str) else int(column)
                found[position] = texts
    return found


def exact_thresholds(model: Any) -> dict[tuple[int, float], float]:
    """The thresholds of trees that compare in double precision, by column and by what converters make of them.

    Converters round to the nearest number in single precision, or to the next below; where two thresholds become one
    there, neither is listed.
    """
    import numpy

    found: dict[tuple[int, float], float] = {}
    twice = set()
    for part in _parts(model):
        kind = type(part)
        if not kind.__module__.startswith("lightgbm") and "HistGradientBoosting" not in kind.__name__:
            continue
        for column, value in _all(part, _DEPTH):
            nearest = numpy.float32(value)
            below = nearest if nearest <= value else numpy.nextafter(nearest, numpy.float32(-numpy.inf))
            for key in {(column, float(nearest)), (column, float(below))}:
                if found.setdefault(key, value) != value:
                    twice.add(key)
    return {key: value for key, value in found.items() if key not in twice}


def _parts(model: Any) -> Iterator[Any]:
    """A model's own parts: the steps of a pipeline, or itself."""
    steps = getattr(model, "steps", None)
    if not steps:
        yield model
    for _, step in steps or ():
        yield from _parts(step)


def _first(model: Any) -> Any:
    """What sees the columns as they come: the first step of a pipeline."""
    while (steps := getattr(model, "steps", None)) and len(steps):
        model = steps[0][1]
    return model


def _all(part: Any, depth: int) -> Iterator[tuple[int, float]]:
    if depth == 0:
        return
    kind = type(part)
    if kind.__module__.startswith("xgboost"):
        yield from _of_xgboost(part)
    elif kind.__module__.startswith("lightgbm"):
        yield from _of_lightgbm(part)
    elif tree := getattr(part, "tree_", None):
        for column, value in zip(tree.feature.tolist(), tree.threshold.tolist(), strict=True):
            yield int(column), float(value)
    elif (nodes := getattr(part, "nodes", None)) is not None and getattr(nodes, "dtype", None) is not None:
        for node in nodes:  # a TreePredictor of histogram gradient boosting
            if not node["is_leaf"]:
                yield int(node["feature_idx"]), float(node["num_threshold"])
    else:
        yield from _of_scaler(part)
        for name in ("estimators_", "_predictors", "estimator_", "base_estimator_", "calibrated_classifiers_"):
            for inner in _flat(getattr(part, name, None)):
                yield from _all(inner, depth - 1)


def _of_scaler(part: Any) -> Iterator[tuple[int, float]]:
    mean, scale = getattr(part, "mean_", None), getattr(part, "scale_", None)
    if mean is not None and scale is not None and len(mean) == len(scale):
        for column, (middle, deviation) in enumerate(zip(mean.tolist(), scale.tolist(), strict=True)):
            yield column, middle - 3 * deviation
            yield column, middle + 3 * deviation
    for name in _PER_COLUMN:
        values: Any = getattr(part, name, None)
        if not hasattr(values, "tolist") or getattr(values, "ndim", 0) not in (1, 2):
            continue
        for row in [values.tolist()] if values.ndim == 1 else values[:_MOST].tolist():
            yield from enumerate(map(float, row))


def _of_xgboost(model: Any) -> Iterator[tuple[int, float]]:
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    names = {name: column for column, name in enumerate(booster.feature_names or ())}
    for text in booster.get_dump(dump_format="json"):
        stack = [json.loads(text)]
        while stack:
            node = stack.pop()
            stack += node.get("children", ())
            if isinstance(node.get("split_condition"), (int, float)):
                split = node["split"]
                yield names[split] if split in names else int(split[1:]), float(node["split_condition"])


def _of_lightgbm(model: Any) -> Iterator[tuple[int, float]]:
    booster = getattr(model, "booster_", model)
    for tree in booster.dump_model()["tree_info"]:
        stack = [tree["tree_structure"]]
        while stack:
            node = stack.pop()
            stack += [node[side] for side in ("left_child", "right_child") if side in node]
            if isinstance(node.get("threshold"), (int, float)):
                yield int(node["split_feature"]), float(node["threshold"])


def _flat(parts: Any) -> Iterator[Any]:
    if parts is None:
        return
    if isinstance(parts, (list, tuple)) or hasattr(parts, "ravel"):
        for each in parts if isinstance(parts, (list, tuple)) else parts.ravel():
            yield from _flat(each)
    else:
        yield parts
