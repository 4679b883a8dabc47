"""The converted graph, made to answer as the model does, and to have the same bytes wherever it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lightship_runtime.engines import Signature
from lightship_runtime.engines.converted import MISSING_VALUES, SIGNATURE


def finish(model: Any, *, probabilities: bool) -> None:
    """Leave the prediction, and for a classifier its probabilities; and nothing that differs from machine to machine.

    `model` is a ModelProto whose first output is the prediction and the second, for a classifier, the probabilities.
    """
    graph = model.graph
    del graph.output[2 if probabilities else 1 :]
    _flatten(graph)
    plain(model)


def plain(model: Any) -> None:
    """Leave out what differs from machine to machine, and what only people would read."""
    graph = model.graph
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for part in (graph, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    graph.name, graph.doc_string = "model", ""
    # Who made it and when says nothing about what it answers.
    model.producer_name = model.producer_version = model.domain = model.doc_string = ""
    model.model_version = 0
    opsets: dict[str, int] = {}
    for each in model.opset_import:
        opsets[each.domain] = max(each.version, opsets.get(each.domain, 0))
    del model.opset_import[:]
    for domain, version in sorted(opsets.items()):
        added = model.opset_import.add()
        added.domain, added.version = domain, version


def content_of(model: Any, missing: bool, *, signature: Signature) -> bytes:
    """The file's content, with what ONNX itself has no place for in its metadata (lightship_runtime's `converted`).

    Args:
        missing: Whether the model may be asked with missing values.
        signature: Of the model before it was converted.
    """
    return with_facts(model, {MISSING_VALUES: as_json(missing), SIGNATURE: as_json(signature)})


def as_json(value: Any) -> str:
    """A fact as it stands in the metadata."""
    return msgspec.json.encode(value).decode()


def with_facts(model: Any, facts: Mapping[str, str]) -> bytes:
    """The file's content, with these facts as its metadata."""
    del model.metadata_props[:]
    for key, value in sorted(facts.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _flatten(graph: Any) -> None:
    """One number per instance instead of a row of one: what `predict` gives."""
    from numpy import array, int64
    from onnx import helper, numpy_helper

    output = graph.output[0]
    sizes = output.type.tensor_type.shape.dim
    if len(sizes) != 2 or sizes[1].dim_value != 1:
        return
    for node in graph.node:
        for position, name in enumerate(node.output):
            if name == output.name:
                node.output[position] = "column"
        for position, name in enumerate(node.input):
            if name == output.name:
                node.input[position] = "column"
    graph.initializer.append(numpy_helper.from_array(array([-1], int64), "flat_shape"))
    graph.node.append(helper.make_node("Reshape", ["column", "flat_shape"], [output.name], name="flatten"))
    del sizes[1]
