"""What signatures say of tensors: the Open Inference Protocol's datatypes, and outputs learnt by asking the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lightship_runtime.engines.engine import Instances, Options, Prediction, Signature, TensorSpec

# By numpy's kind of type: the protocol's family, which the width in bits completes.
_FAMILIES = {"f": "FP", "i": "INT", "u": "UINT"}
MAX_EXAMPLE = 4096  # numbers; a longer example helps nobody in a page or a schema

Predict = Callable[[Instances, Options], Prediction]


def datatype(dtype: Any) -> str:
    """The protocol's name for a numpy type: FP64, INT64, BOOL; BYTES for texts and whatever else there is."""
    if dtype.kind == "b":
        return "BOOL"
    family = _FAMILIES.get(dtype.kind)
    return f"{family}{dtype.itemsize * 8}" if family and dtype.itemsize <= 8 else "BYTES"


def rows_spec(features: int | None, name: str = "input") -> TensorSpec:
    """The one input of a model of rows: numbers in double precision."""
    return TensorSpec(name, "FP64", (-1, features or -1))


def output_spec(name: str, values: Instances) -> TensorSpec | None:
    """What one output is, by an example of it; None where it is no regular array."""
    import numpy

    try:
        array = numpy.asarray(values)
    except ValueError:
        return None
    if array.dtype.kind == "O" and not all(isinstance(value, str) for value in array.flat):
        return None
    return TensorSpec(name, datatype(array.dtype), (-1, *array.shape[1:]))


def example_of(dtype: str, shape: Sequence[int]) -> Any:
    """Nested lists for one instance of a tensor, 1 where any length will do; None where they would be too long."""
    lengths = [1 if length < 0 else length for length in shape]
    total = 1
    for length in lengths:
        total *= length
    if total > MAX_EXAMPLE:
        return None
    value: Any = {"BYTES": "text", "BOOL": True}.get(dtype, 1.0 if dtype.startswith("FP") else 1)
    for length in reversed(lengths):
        value = [value] * length
    return value


def learnt(signature: Signature, predict: Predict) -> Signature:
    """The signature, with its outputs as the model answers its example; without the example where it refuses that."""
    try:
        prediction = predict([signature.example], Options(probabilities=signature.probabilities))
    except Exception:  # whatever a library finds wrong with numbers that we made up
        return replace(signature, example=None)
    values = prediction.predictions
    if isinstance(values, list) and values and isinstance(values[0], dict):
        outputs = [output_spec(str(name), [value]) for name, value in values[0].items()]
    else:
        outputs = [output_spec("predictions", values)]
    if prediction.probabilities is not None:
        outputs.append(output_spec("probabilities", prediction.probabilities))
    known = tuple(output for output in outputs if output is not None)
    return replace(signature, outputs=known if len(known) == len(outputs) else ())
