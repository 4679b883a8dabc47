"""The metadata documents of the Open Inference Protocol, from a signature alone: no model needs to be at hand."""

from __future__ import annotations

from typing import Any

from lightship_runtime.engines.engine import Signature, TensorSpec
from lightship_runtime.payload.parsed import ServedModel
from lightship_runtime.payload.tensor_outputs import PREDICTIONS, PROBABILITIES

SERVER = "lightship"
EXTENSIONS = ("binary_tensor_data",)


def server_metadata() -> dict[str, Any]:
    """`GET /v2`. Without our version: it is nobody's business (`version` is required, so it says which protocol)."""
    return {"name": SERVER, "version": "2", "extensions": list(EXTENSIONS)}


def model_metadata(model: ServedModel) -> dict[str, Any]:
    """`GET /v2/models/<name>`."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": model.platform,
        "inputs": [_document(one) for one in model_inputs(model.signature)],
        "outputs": [_document(one) for one in model_outputs(model.signature)],
    }


def model_inputs(signature: Signature) -> tuple[TensorSpec, ...]:
    """The inputs as the engine tells them, else the tensor that is taken for this kind of instance."""
    if signature.inputs:
        return signature.inputs
    if signature.rows:
        features = signature.features or (len(signature.names) if signature.names else -1)
        return (TensorSpec("instances", "FP64", (-1, features)),)
    if signature.kind == "tensor":
        return (TensorSpec("instances", "FP32", (-1, -1)),)
    return (TensorSpec("instances", "BYTES", (-1,)),)


def model_outputs(signature: Signature) -> tuple[TensorSpec, ...]:
    """The outputs as the engine tells them, else what is known of the predictions from the classes."""
    if signature.outputs:
        return signature.outputs
    kinds = {type(one) for one in signature.classes or ()}
    datatype = "BOOL" if kinds == {bool} else "INT64" if kinds == {int} else "BYTES" if kinds == {str} else "FP64"
    if signature.kind not in ("rows", "tensor") and not kinds:
        datatype = "BYTES"
    outputs = [TensorSpec(PREDICTIONS, datatype, (-1,))]
    if signature.probabilities:
        outputs.append(TensorSpec(PROBABILITIES, "FP64", (-1, len(signature.classes) if signature.classes else -1)))
    return tuple(outputs)


def _document(one: TensorSpec) -> dict[str, Any]:
    return {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
