"""Trees that take the same turns as before, and add up their leaves in double precision.

scikit-learn's trees and XGBoost's compare a feature in single precision, those of LightGBM and of histogram gradient
boosting in double. Converters write thresholds in single precision, and ONNX Runtime compares in the precision of the
input; the sum of the leaves has that precision too, and is rounded to single in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TREES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
_DOMAIN = "ai.onnx.ml"

Thresholds = Mapping[tuple[int, float], float]  # by feature and what is left of the threshold in single precision


def trees_as_trained(model: Any, exact: Thresholds, *, double: bool) -> None:
    """Give every ensemble its input as double, rounded to single before where that is what the model does.

    Args:
        exact: The thresholds of trees that compare in double precision; none where the model has no such trees.
        double: Whether the rest of the graph is in double precision.
    """
    from onnx import TensorProto

    declared = {output.name: output.type.tensor_type.elem_type for output in model.graph.output}
    nodes: list[Any] = []
    for node in list(model.graph.node):
        if node.op_type not in _TREES:
            nodes.append(node)
            continue
        name = f"trees_{len(nodes)}"
        given, scores = node.input[0], len(node.output) - 1
        if double and not (exact and _restore(node, exact)):
            nodes.append(_cast(given, f"{name}_single", TensorProto.FLOAT))
            given = f"{name}_single"
        nodes.append(_cast(given, f"{name}_input", TensorProto.DOUBLE))
        node.input[0] = f"{name}_input"
        nodes.append(node)
        wanted = node.output[scores]
        if double and declared.get(wanted, TensorProto.DOUBLE) == TensorProto.DOUBLE:
            node.output[scores] = f"{name}_output"
            nodes.append(_cast(f"{name}_output", wanted, TensorProto.DOUBLE))
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    for opset in model.opset_import:
        if opset.domain == _DOMAIN:
            opset.version = max(opset.version, 3)  # the first in which thresholds may be double


def _restore(node: Any, exact: Thresholds) -> bool:
    """Put the thresholds of the model in place of their rounded ones. Returns whether all were found."""
    from numpy import array, float64
    from onnx import helper, numpy_helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if "nodes_values" not in given:
        return False
    values = []
    for feature, mode, value in zip(
        given["nodes_featureids"], given["nodes_modes"], given["nodes_values"], strict=True
    ):
        if mode == b"LEAF":
            values.append(0.0)
        elif (feature, value) in exact:
            values.append(exact[feature, value])
        else:
            return False
    kept = [attribute for attribute in node.attribute if attribute.name != "nodes_values"]
    tensor = numpy_helper.from_array(array(values, float64), "nodes_values_as_tensor")
    replaced = {"nodes_values_as_tensor": tensor}
    # All leaves' weights and the like have to be of the same precision then.
    for name in ("class_weights", "target_weights", "base_values", "nodes_hitrates"):
        if name in given:
            replaced[f"{name}_as_tensor"] = numpy_helper.from_array(array(given[name], float64), f"{name}_as_tensor")
            kept = [attribute for attribute in kept if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(replaced.items()))
    return True


def _cast(given: str, name: str, kind: int) -> Any:
    from onnx import helper

    return helper.make_node("Cast", [given], [name], name=f"cast_{name}", to=kind)
