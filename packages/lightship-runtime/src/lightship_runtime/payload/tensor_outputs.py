"""From a prediction to the tensors of an answer.

The outputs are called as the signature's `outputs`; where those are unknown, `predictions`, and `probabilities` if
asked for. `predict` and `predict_proba` are understood as well, because clients of MLServer ask for those. Where a
model has several outputs, each prediction is an object of them. What is no tensor at all is sent as BYTES, one JSON
text per instance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lightship_runtime.engines.engine import Prediction, Signature, TensorSpec
from lightship_runtime.payload.json import plain
from lightship_runtime.payload.tensors import DATATYPES, RANGES, Tensor

PREDICTIONS = "predictions"
PROBABILITIES = "probabilities"
_MLSERVER = {"predict": PREDICTIONS, "predict_proba": PROBABILITIES}
_BY_KIND = {"b": "BOOL", "U": "BYTES", "S": "BYTES"}
_FAMILIES = {"FP": float, "BF": float, "IN": int, "UI": int}


def known_names(signature: Signature) -> tuple[str, str]:
    """What the (first of the) predictions and the probabilities of this model are called."""
    names = [one.name for one in signature.outputs]
    unnamed = signature.probabilities and len(names) == 2 and PROBABILITIES not in names
    return names[0] if names else PREDICTIONS, names[1] if unnamed else PROBABILITIES


def is_probabilities(name: str, signature: Signature) -> bool:
    """Whether an output that a client asks for is the probabilities."""
    return name == known_names(signature)[1] or _MLSERVER.get(name, name) == PROBABILITIES


def is_known(name: str, signature: Signature) -> bool:
    """Whether an output of that name may be asked for."""
    return (
        name in known_names(signature)
        or _MLSERVER.get(name, name) in (PREDICTIONS, PROBABILITIES)
        or any(name == one.name for one in signature.outputs)
        or not signature.outputs
    )


def outputs_of(prediction: Prediction, signature: Signature) -> list[Tensor]:
    """All outputs, the predictions first."""
    first, second = known_names(signature)
    specs = {one.name: one for one in signature.outputs}
    scores = specs.pop(second, None)
    predictions = prediction.predictions
    tensors = []
    if isinstance(predictions, list) and _are_outputs(predictions, specs):
        tensors = [_tensor(name, [one[name] for one in predictions], spec) for name, spec in specs.items()]
    else:
        tensors = [_tensor(first, predictions, specs.get(first))]
    if prediction.probabilities is not None:
        tensors.append(_tensor(second, prediction.probabilities, scores))
    return tensors


def selected(tensors: Sequence[Tensor], wanted: Sequence[str], signature: Signature) -> list[Tensor] | None:
    """The outputs that a client asks for, called as it calls them; None where one of them is not there."""
    by_name = {tensor.name: tensor for tensor in tensors}
    first, second = known_names(signature)
    found = []
    for name in wanted:
        other = {PREDICTIONS: first, PROBABILITIES: second}.get(_MLSERVER.get(name, name), name)
        tensor = by_name.get(name) or by_name.get(other)
        if tensor is None:
            return None
        found.append(Tensor(name, tensor.datatype, tensor.shape, tensor.values))
    return found


def _are_outputs(predictions: list[Any], specs: Mapping[str, TensorSpec]) -> bool:
    """Whether each prediction is an object with the model's outputs (all but the probabilities) as its members."""
    return len(specs) > 1 and all(isinstance(one, dict) and one.keys() == specs.keys() for one in predictions)


def _tensor(name: str, values: Any, spec: TensorSpec | None) -> Tensor:
    if isinstance(values, list) and any(hasattr(value, "dtype") for value in values):
        values = [value.tolist() if hasattr(value, "dtype") else value for value in values]
    return _of_list(name, values, spec) if isinstance(values, list) else _of_array(name, values, spec)


def _of_array(name: str, array: Any, spec: TensorSpec | None) -> Tensor:
    datatype = _BY_KIND.get(array.dtype.kind) or {
        "i": f"INT{array.dtype.itemsize * 8}",
        "u": f"UINT{array.dtype.itemsize * 8}",
        "f": f"FP{array.dtype.itemsize * 8}",
    }.get(array.dtype.kind, "")
    if datatype not in DATATYPES:
        return _of_list(name, array.tolist(), spec)
    if datatype == "BYTES":
        return Tensor(name, datatype, tuple(array.shape), array.ravel().tolist())
    return Tensor(name, datatype, tuple(array.shape), array)


def _of_list(name: str, values: list[Any], spec: TensorSpec | None) -> Tensor:
    shape, flat = _shape(values)
    datatype = _datatype(flat)
    if datatype is None:
        texts = [msgspec.json.encode(value, enc_hook=plain) for value in values]
        return Tensor(name, "BYTES", (len(values),), texts)
    if spec is not None and _FAMILIES.get(spec.datatype[:2]) is _FAMILIES.get(datatype[:2], str):
        datatype = spec.datatype if _fits(flat, spec.datatype) else datatype
    return Tensor(name, datatype, shape, [math.nan if one is None else one for one in flat] if None in flat else flat)


def _shape(values: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """Lengths, as deep as the lists are regular, and the values in them."""
    shape, flat = [len(values)], values
    while flat and all(isinstance(one, list) for one in flat):
        length = len(flat[0])
        if any(len(one) != length for one in flat):
            break
        shape.append(length)
        flat = [value for one in flat for value in one]
    return tuple(shape), flat


def _datatype(flat: list[Any]) -> str | None:
    kinds = {type(value) for value in flat}
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int}:
        if _fits(flat, "INT64"):
            return "INT64"
        return "UINT64" if _fits(flat, "UINT64") else None
    if kinds <= {int, float, type(None)} and float in kinds:
        return "FP64"
    return "BYTES" if kinds in ({str}, {bytes}) else None


def _fits(flat: list[Any], datatype: str) -> bool:
    if datatype == "BF16":
        return False  # NumPy cannot write it
    if datatype.startswith("FP"):
        return True
    low, high = RANGES[datatype]
    return not flat or (min(flat) >= low and max(flat) <= high)
