"""An answer as a table: one column per output, for formats that have columns."""

from __future__ import annotations

from typing import Any

import msgspec

from lightship_runtime.engines.engine import Prediction
from lightship_runtime.payload.parsed import ServedModel


class Column(msgspec.Struct, frozen=True):
    """A name, and one value per instance."""

    name: str
    values: Any  # a list, or an array of one dimension


def answer_columns(prediction: Prediction, model: ServedModel) -> list[Column]:
    """`prediction`, or `prediction_0` and so on where each is a row of equal length; then `probability_<class>`.

    Classes that are not known are counted from 0. Predictions that are objects with the same members each become a
    column per member.
    """
    columns = _named("prediction", prediction.predictions, None)
    if prediction.probabilities is not None:
        classes = prediction.classes if prediction.classes is not None else model.signature.classes
        columns += _named("probability", prediction.probabilities, classes)
    return columns


def _named(name: str, values: Any, labels: Any) -> list[Column]:
    if not isinstance(values, list) and values.ndim > 2:
        values = values.tolist()
    if not isinstance(values, list):
        return [Column(name, values)] if values.ndim == 1 else _side_by_side(name, list(values.T), labels)
    first = values[0]
    if isinstance(first, dict) and all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        return [Column(str(key), [value[key] for value in values]) for key in first]
    if not isinstance(first, list) or any(
        not isinstance(value, list) or len(value) != len(first) for value in values
    ):
        return [Column(name, values)]
    return _side_by_side(name, [list(column) for column in zip(*values)], labels)  # noqa: B905  # equal lengths


def _side_by_side(name: str, columns: list[Any], labels: Any) -> list[Column]:
    if labels is None or len(labels) != len(columns):
        labels = range(len(columns))
    return [Column(f"{name}_{label}", column) for label, column in zip(labels, columns)]  # noqa: B905  # equal lengths
