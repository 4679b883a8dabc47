"""ONNX models, run by ONNX Runtime.

One input takes the instances as they are, stacked; of several inputs each instance is an object with their names.
A classifier converted from scikit-learn has a label and its probabilities as outputs, and is answered as one; other
models give their only output, or an object of outputs per instance. A model that the builder converted
(`[optimize] onnx = true`) is asked and answers as the model before (converted.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from lightship_runtime.engines import tensors
from lightship_runtime.engines.converted import Converted
from lightship_runtime.engines.engine import (
    Engine,
    Fork,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
    TensorSpec,
)
from lightship_runtime.engines.gpu import gpu_is_there
from lightship_runtime.engines.specs import datatype, learnt
from lightship_runtime.errors import StartError

_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint64)": "uint64",
    "tensor(uint32)": "uint32",
    "tensor(uint16)": "uint16",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}
# Bytes of a model up to which a forked process makes a session of its own to have more threads than one.
SMALL = 64 << 20


class OnnxEngine(Engine):
    """An `InferenceSession`, whose number of threads is fixed when it is made."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime")
    # ONNX Runtime has threads of its own; starting those of numpy takes as long as the rest of its import.
    environment: ClassVar[Mapping[str, str]] = {"OPENBLAS_NUM_THREADS": "1"}
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = "one thread"  # a session with more has a pool, whose threads do not survive

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        self._threads = source.threads
        self._session = session = make_session(source, source.threads)
        found = session.get_inputs()
        unknown = sorted({one.type for one in found if one.type not in _TYPES})
        if unknown:
            raise StartError(f"The model takes inputs of a type that cannot be sent as JSON: {', '.join(unknown)}.")
        self._inputs = [tensors.TensorInput(one.name, _TYPES[one.type], _shape(one)) for one in found]
        self._outputs = [output.name for output in session.get_outputs()]
        self._singly = tensors.one_at_a_time(self._inputs)
        # skl2onnx and onnxmltools name the second output of a classifier so.
        self._classifier = len(self._outputs) == 2 and self._outputs[1].lower() in (
            "probabilities",
            "output_probability",
        )
        self._converted = Converted.read(session.get_modelmeta().custom_metadata_map)
        if self._converted is not None:
            self._signature = self._converted.signature
            return
        shape = self._inputs[0].shape or ()
        rows = len(self._inputs) == 1 and len(shape) == 2 and self._inputs[0].dtype != "object"
        self._signature = Signature(
            kind="rows" if rows else "tensor",
            features=shape[1] if rows else None,
            probabilities=self._classifier,
            inputs=tuple(one.spec for one in self._inputs),
            outputs=_output_specs(session.get_outputs(), classifier=self._classifier),
            example=tensors.example(self._inputs),
        )
        if self._signature.example is not None:
            asked = learnt(self._signature, self.predict)
            # What the file says stands, unless it says nothing.
            outputs = self._signature.outputs or asked.outputs
            self._signature = replace(self._signature, outputs=outputs, example=asked.example)

    @classmethod
    def forking(cls) -> Fork:
        return "never" if gpu_is_there() else cls.fork

    @classmethod
    def load(cls, source: ModelSource) -> OnnxEngine:
        return cls(source)

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def batches(self) -> bool:
        return not self._singly

    def predict(self, instances: Instances, options: Options) -> Prediction:
        if self._converted is not None:
            types = {one.name: one.dtype for one in self._inputs}
            return self._converted.prediction(self._run(self._converted.feed(instances, types)), options)
        results = tensors.run(self._run, tensors.feed(instances, self._inputs), singly=self._singly)
        if not self._classifier:
            return Prediction(tensors.predictions(self._outputs, results))
        labels, scores = results
        if not options.probabilities:
            return Prediction(labels)
        if isinstance(scores, list):  # a ZipMap: one dictionary from class to probability per instance
            return Prediction(labels, [list(row.values()) for row in scores], list(scores[0]))
        return Prediction(labels, scores)

    def set_threads(self, threads: int) -> None:
        """More threads need a session of one's own; a large model stays shared, and keeps the one thread it has."""
        if threads != self._threads and self._source.path.stat().st_size <= SMALL:
            self._session = make_session(self._source, threads)
            self._threads = threads

    def _run(self, feed: Any) -> list[Any]:
        results: list[Any] = self._session.run(self._outputs, feed)
        return results


def make_session(source: ModelSource, threads: int) -> Any:
    """An `InferenceSession` of the file, on the GPU where ONNX Runtime has one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; warnings of the optimiser are nothing a user can act on
    providers = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(str(source.path), options, providers=providers)


def _shape(one: Any) -> tuple[int | None, ...] | None:
    """Lengths; names such as `batch` and what is unknown become None. No shape at all says nothing."""
    return tuple(size if isinstance(size, int) else None for size in one.shape) if one.shape else None


def _output_specs(outputs: Any, *, classifier: bool) -> tuple[TensorSpec, ...]:
    """As the file says; () where an output is no tensor. Those of a classifier are called as everywhere."""
    import numpy

    if any(output.type not in _TYPES for output in outputs):
        return ()
    names = ["predictions", "probabilities"] if classifier else [output.name for output in outputs]
    specs = []
    for name, output in zip(names, outputs):  # noqa: B905  # a classifier has two
        shape = (-1, *(-1 if size is None else size for size in (_shape(output) or ())[1:]))
        specs.append(TensorSpec(name, datatype(numpy.dtype(_TYPES[output.type])), shape))
    return tuple(specs)
