"""The conversions of a model, the most exact first: in double precision, then single; as a matrix, then by column."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightship.optimize.inside.graph import content_of, finish
from lightship.optimize.inside.inputs import Inputs
from lightship.optimize.inside.landmarks import exact_thresholds
from lightship.optimize.inside.opset import target_opset
from lightship.optimize.inside.refusal import Refusal
from lightship.optimize.inside.trees import trees_as_trained
from lightship_runtime.engines import Signature


@dataclass(frozen=True)
class _Attempt:
    name: str
    double: bool
    by_column: bool


_ATTEMPTS = (
    _Attempt("double precision", double=True, by_column=False),
    _Attempt("single precision", double=False, by_column=False),
    _Attempt("double precision, by column", double=True, by_column=True),
    _Attempt("single precision, by column", double=False, by_column=True),
)


def conversions(
    model: Any,
    signature: Signature,
    inputs: Inputs,
    *,
    refused: list[str],
) -> Iterator[tuple[str, Callable[[bool], bytes]]]:
    """Files to choose from, and what each is called; why one could not be made is added to `refused`.

    Each file is made by a function that is told whether the model may be asked with missing values.

    Raises: `Refusal` where no converter knows the model.
    """
    assert signature.features is not None
    exact = exact_thresholds(model)
    convert = _converter(model, signature)
    for attempt in _ATTEMPTS:
        if attempt.by_column and not signature.names:
            continue
        if inputs.texts and not attempt.by_column:
            continue
        try:
            proto = convert(_types(signature, inputs, attempt))
            trees_as_trained(proto, exact, double=attempt.double)
            finish(proto, probabilities=signature.probabilities)
        except Refusal:
            raise
        except Exception as error:  # converters raise whatever they stumble over
            if refusal := _unknown(error):
                raise refusal from error
            refused.append(f"{attempt.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            continue
        yield attempt.name, partial(content_of, proto, signature=signature)


def _types(signature: Signature, inputs: Inputs, attempt: _Attempt) -> list[tuple[str, Any]]:
    from skl2onnx.common import data_types

    number = data_types.DoubleTensorType if attempt.double else data_types.FloatTensorType
    if not attempt.by_column:
        return [("input", number([None, signature.features]))]
    return [
        (name, (data_types.StringTensorType if column in inputs.texts else number)([None, 1]))
        for column, name in enumerate(signature.names or ())
    ]


def _converter(model: Any, signature: Signature) -> Callable[[list[tuple[str, Any]]], Any]:
    library = type(model).__module__.partition(".")[0]
    if type(model).__name__ == "Booster":
        from lightship.optimize.inside.boosters import booster_converter

        return booster_converter(model, library, signature)
    from skl2onnx import convert_sklearn

    _register_boosters()
    for part in (model, *(step for _, step in getattr(model, "steps", ()))):
        if type(part).__module__.startswith("xgboost"):
            part.get_booster().feature_names = None  # the converter knows columns by their numbers
        if hasattr(part, "flatten_transform"):
            part.flatten_transform = False  # of VotingClassifier: what transform() gives, which nobody asks
    options = {"zipmap": False} if signature.probabilities else None

    def convert(types: list[tuple[str, Any]]) -> Any:
        return convert_sklearn(model, name="model", initial_types=types, options=options, target_opset=target_opset())

    return convert


def _register_boosters() -> None:
    """Teach skl2onnx the estimators of XGBoost and LightGBM, also as a step of a pipeline."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    shapes = {
        "Classifier": calculate_linear_classifier_output_shapes,
        "Regressor": calculate_linear_regressor_output_shapes,
    }
    converters = "onnxmltools.convert.{0}.operator_converters.{1}"
    for library, prefix, module, function in (
        ("xgboost", "XGB", "XGBoost", "convert_xgboost"),
        ("lightgbm", "LGBM", "LightGbm", "convert_lightgbm"),
    ):
        try:
            estimators = importlib.import_module(library)
        except ImportError:
            continue
        converter = getattr(importlib.import_module(converters.format(library, module)), function)
        for kind, shape in shapes.items():
            options = {"nocl": [True, False], "zipmap": [True, False, "columns"], "raw_scores": [True, False]}
            update_registered_converter(
                getattr(estimators, prefix + kind),
                f"{library}{kind}",
                shape,
                converter,
                options=options if kind == "Classifier" else {"split": None},
            )


def _unknown(error: Exception) -> Refusal | None:
    """Where skl2onnx has no converter for a part of the model, what to tell."""
    if type(error).__name__ not in ("MissingShapeCalculator", "MissingConverter"):
        return None
    from re import search

    named = search(r"type '<class '([\w.]+)'>'", str(error)) or search(r"class '([\w.]+)'", str(error))
    part = named.group(1) if named else "a part of the model"
    return Refusal(
        f"there is no converter to ONNX for {part}",
        "Leave [optimize] onnx out: the model is served as it is. Or build the model of estimators that skl2onnx "
        "knows (a transformer of your own can often be a FunctionTransformer's or ColumnTransformer's task).",
    )
