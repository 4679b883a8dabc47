"""ONNX models, run by ONNX Runtime.

One input takes the instances as they are, stacked; of several inputs each instance is an object with their names.
A classifier converted from scikit-learn has a label and its probabilities as outputs, and is answered as one; other
models give their only output, or an object of outputs per instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from lightship_runtime.engines.arrays import tensor
from lightship_runtime.engines.engine import (
    BadInstances,
    Engine,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
)
from lightship_runtime.errors import StartError

if TYPE_CHECKING:
    import numpy

_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


class OnnxEngine(Engine):
    """An `InferenceSession`, which uses all CPUs for each prediction."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime")
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = session.get_inputs()
        self._outputs = [output.name for output in session.get_outputs()]
        unknown = sorted({one.type for one in self._inputs if one.type not in _TYPES})
        if unknown:
            raise StartError(f"The model takes inputs of a type that cannot be sent as JSON: {', '.join(unknown)}.")
        # skl2onnx and onnxmltools name the second output of a classifier so.
        self._classifier = len(self._outputs) == 2 and self._outputs[1].lower() in (
            "probabilities",
            "output_probability",
        )
        shape = self._inputs[0].shape or []
        rows = len(self._inputs) == 1 and len(shape) == 2
        self._signature = Signature(
            kind="rows" if rows else "tensor",
            features=shape[1] if rows and isinstance(shape[1], int) else None,
            probabilities=self._classifier,
        )

    @classmethod
    def load(cls, source: ModelSource) -> OnnxEngine:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = source.threads
        options.log_severity_level = 3  # errors; warnings of the optimiser are nothing a user can act on
        providers = onnxruntime.get_available_providers()
        return cls(onnxruntime.InferenceSession(str(source.path), options, providers=providers))

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        results = self._session.run(self._outputs, self._feed(instances))
        if self._classifier:
            labels, scores = results
            if not options.probabilities:
                return Prediction(labels.tolist())
            if isinstance(scores, list):  # a ZipMap: one dictionary from class to probability per instance
                return Prediction(labels.tolist(), [list(row.values()) for row in scores], list(scores[0]))
            return Prediction(labels.tolist(), scores.tolist())
        columns = [result if isinstance(result, list) else result.tolist() for result in results]
        if len(columns) == 1:
            return Prediction(columns[0])
        return Prediction([dict(zip(self._outputs, row)) for row in zip(*columns)])  # noqa: B905

    def _feed(self, instances: Instances) -> dict[str, numpy.ndarray]:
        if len(self._inputs) == 1:
            only = self._inputs[0]
            return {only.name: _fitting(instances, only)}
        names = [one.name for one in self._inputs]
        for number, instance in enumerate(instances, 1):
            if not isinstance(instance, dict) or sorted(instance) != sorted(names):
                raise BadInstances(f"Instance {number} must be an object with the members {', '.join(names)}.")
        return {one.name: _fitting([instance[one.name] for instance in instances], one) for one in self._inputs}


def _fitting(values: Any, wanted: Any) -> numpy.ndarray:
    """The values as the array that an input wants. A dimension that is no number may have any length."""
    array = tensor(values, _TYPES[wanted.type])
    shape = wanted.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(size, int) and size != found for size, found in zip(shape[1:], array.shape[1:]))  # noqa: B905
    ):
        sizes = ", ".join(str(size) if isinstance(size, int) else "any" for size in shape[1:])
        raise BadInstances(f"Every instance of the input {wanted.name!r} must have the shape ({sizes}).")
    return array
