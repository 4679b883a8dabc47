"""What a fitted scikit-learn model says about its columns, its classes, and an instance that it can answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from lightship_runtime.engines.engine import Signature, TensorSpec
from lightship_runtime.engines.specs import Predict, learnt, rows_spec

_TEXT = "sklearn.feature_extraction.text"


def sklearn_signature(model: Any, predict: Predict, assume: Callable[[Signature], None]) -> Signature:
    """The signature of a fitted model. `assume` is told of it before `predict` is asked for the outputs."""
    names = getattr(model, "feature_names_in_", None)
    features = getattr(model, "n_features_in_", None)
    classes = getattr(model, "classes_", None)
    signature = Signature(
        kind="rows" if features is not None else "text" if _takes_texts(model) else "any",
        features=None if features is None else int(features),
        names=None if names is None else tuple(map(str, names)),
        probabilities=hasattr(model, "predict_proba"),
        classes=tuple(classes.tolist()) if classes is not None and hasattr(classes, "tolist") else None,
    )
    if signature.kind == "text":
        signature = replace(signature, inputs=(TensorSpec("input", "BYTES", (-1,)),), example="text")
    elif signature.features:
        values = _values(model, signature.features, signature.names)
        signature = replace(signature, inputs=_inputs(values, signature), example=values)
    else:
        return signature
    assume(signature)
    return learnt(signature, predict)


def _inputs(values: list[Any], signature: Signature) -> tuple[TensorSpec, ...]:
    """One tensor of numbers; where a named column holds something else, one tensor per column."""
    if signature.names is None or all(isinstance(value, float) for value in values):
        return (rows_spec(signature.features),)
    return tuple(
        TensorSpec(name, "FP64" if isinstance(value, float) else "BYTES", (-1,))
        for name, value in zip(signature.names, values)  # noqa: B905  # as many as features
    )


def _takes_texts(model: Any) -> bool:
    """Whether the first step is one of scikit-learn's vectorizers of texts."""
    first = model
    while steps := getattr(first, "steps", None):
        first = steps[0][1]
    return type(first).__module__ == _TEXT


def _values(model: Any, features: int, names: tuple[str, ...] | None) -> list[Any]:
    """A row as the training data had it on average, as far as the first steps remember; else zeros."""
    values: list[Any] = [0.0] * features
    for part, columns in _first_steps(model, list(range(features)), names or ()):
        if (categories := getattr(part, "categories_", None)) is not None:
            known = [one[0] for one in categories if len(one)]
        else:
            known = next((list(getattr(part, name)) for name in ("mean_", "data_min_", "center_", "statistics_")
                          if getattr(part, name, None) is not None), [])  # fmt: skip
        if len(known) == len(columns):
            for column, value in zip(columns, known):  # noqa: B905  # the lengths are equal
                values[column] = _plain(value)
    return values


def _first_steps(model: Any, columns: list[int], names: tuple[str, ...]) -> Iterator[tuple[Any, list[int]]]:
    """The fitted parts that see columns of the input themselves, with the numbers of those columns."""
    if steps := getattr(model, "steps", None):
        yield from _first_steps(steps[0][1], columns, names)
    elif (transformers := getattr(model, "transformers_", None)) is not None:
        for _, part, chosen in transformers:
            numbers = [_column(one, names) for one in chosen] if isinstance(chosen, (list, tuple)) else []
            if not isinstance(part, str) and all(number is not None for number in numbers):
                yield from _first_steps(part, [number for number in numbers if number is not None], names)
    else:
        yield model, columns


def _column(chosen: Any, names: tuple[str, ...]) -> int | None:
    if isinstance(chosen, str):
        return names.index(chosen) if chosen in names else None
    return chosen if isinstance(chosen, int) else None


def _plain(value: Any) -> Any:
    """A scalar of Python; every number as a float, rounded to what a person would type."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(f"{value:.3g}")
    return value if isinstance(value, (str, bool)) else 0.0
