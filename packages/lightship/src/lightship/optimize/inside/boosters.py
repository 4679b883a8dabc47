"""Boosters that XGBoost and LightGBM saved in formats of their own, which answer otherwise than their estimators.

A LightGBM booster gives the probability of the second of two classes, or one per class, as its prediction; an XGBoost
one that a classifier saved is answered as a classifier, any other gives its scores (see the runtime's engines).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightship.optimize.inside.opset import BOOSTERS
from lightship_runtime.engines import Signature


def booster_converter(booster: Any, library: str, signature: Signature) -> Callable[[list[tuple[str, Any]]], Any]:
    """What converts a booster, given the types of its inputs."""
    if library == "lightgbm":
        return lambda types: _lightgbm(booster, types)
    return lambda types: _xgboost(booster, types, signature)


def _lightgbm(booster: Any, types: list[tuple[str, Any]]) -> Any:
    from onnxmltools import convert_lightgbm

    proto = convert_lightgbm(
        booster, name="model", initial_types=_onnxmltools(types), zipmap=False, target_opset=BOOSTERS
    )
    if len(proto.graph.output) > 1:  # a label and its probabilities; the booster gives the latter alone
        objective = booster.dump_model()["objective"].partition(" ")[0]
        _only_probabilities(proto, second_alone=objective == "binary")
    return proto


def _xgboost(booster: Any, types: list[tuple[str, Any]], signature: Signature) -> Any:
    from onnxmltools import convert_xgboost

    names = booster.feature_names
    booster.feature_names = None  # the converter knows columns by their numbers
    try:
        proto = convert_xgboost(booster, name="model", initial_types=_onnxmltools(types), target_opset=BOOSTERS)
    finally:
        booster.feature_names = names
    if len(proto.graph.output) > 1 and not signature.probabilities:
        _only_probabilities(proto, second_alone=True)
    return proto


def _onnxmltools(types: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The same types as onnxmltools' own, which it tells from skl2onnx's."""
    from onnxmltools.convert.common import data_types

    return [(name, getattr(data_types, type(each).__name__)(each.shape)) for name, each in types]


def _only_probabilities(proto: Any, *, second_alone: bool) -> None:
    from numpy import array, int64
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    scores = graph.output[1].name
    del graph.output[:]
    if second_alone:
        graph.initializer.append(numpy_helper.from_array(array(1, int64), "second_class"))
        graph.node.append(helper.make_node("Gather", [scores, "second_class"], ["prediction"], name="second", axis=1))
        graph.output.append(helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None]))
    else:
        graph.output.append(helper.make_tensor_value_info(scores, TensorProto.FLOAT, [None, None]))
