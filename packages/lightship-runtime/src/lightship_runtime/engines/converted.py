"""What the builder knows of a model that it converted to ONNX, kept in the file's metadata.

    lightship.signature         the signature of the model before, as JSON: columns, classes, types of answers
    lightship.missing_values    true or false, as JSON: whether null stands for a missing value, or is refused

Clients see the model that was converted: it takes what it took, and its answers have the names and types they had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from lightship_runtime.engines.arrays import exact_rows, matrix
from lightship_runtime.engines.engine import BadInstances, Instances, Options, Prediction, Signature
from lightship_runtime.errors import StartError

if TYPE_CHECKING:
    import numpy

SIGNATURE = "lightship.signature"
MISSING_VALUES = "lightship.missing_values"
_DTYPES = {"FP64": "float64", "FP32": "float32", "INT64": "int64", "INT32": "int32", "BOOL": "bool", "BYTES": "str"}


@dataclass(frozen=True)
class Converted:
    """How a converted model is asked, and how it answers: `missing` says whether values may be missing."""

    signature: Signature
    missing: bool

    @staticmethod
    def read(metadata: Mapping[str, str]) -> Converted | None:
        """From a file's metadata; None where the builder did not write it. Raises StartError where it is damaged."""
        if SIGNATURE not in metadata:
            return None
        try:
            signature = msgspec.json.decode(metadata[SIGNATURE], type=Signature)
            missing = msgspec.json.decode(metadata.get(MISSING_VALUES, "false"), type=bool)
        except msgspec.DecodeError as error:
            raise StartError(
                f"The model's metadata is not what the builder writes: {error}.", hint="Build the image again."
            ) from error
        return Converted(signature, missing)

    def feed(self, instances: Instances, types: Mapping[str, str]) -> dict[str, numpy.ndarray]:
        """The inputs of a session: `types` are the numpy types that they want, by name. Raises BadInstances.

        There is one input, a matrix of numbers, or one for each column, in the columns' order.
        """
        import numpy

        if len(types) == 1 and "object" not in types.values():
            ((name, dtype),) = types.items()
            array = matrix(instances, self.signature)
            if not self.missing and numpy.isnan(array).any():
                raise BadInstances("A value is missing, and this model cannot do without.")
            with numpy.errstate(over="ignore"):
                return {name: array.astype(dtype, copy=False)}
        rows = exact_rows(instances, self.signature)
        columns = zip(types.items(), zip(*rows))  # noqa: B905  # exact_rows has checked the lengths
        return {name: self._column(name, values, dtype) for (name, dtype), values in columns}

    def _column(self, name: str, values: Sequence[Any], dtype: str) -> numpy.ndarray:
        import numpy

        texts = dtype == "object"
        for value in values:
            if value is None and (texts or not self.missing):
                raise BadInstances(f"A value of the column {name!r} is missing, and this model cannot do without.")
            if value is not None and (isinstance(value, bool) or isinstance(value, str) != texts):
                raise BadInstances(f"The column {name!r} takes {'texts' if texts else 'numbers'} only.")
        return numpy.array(values, dtype=dtype).reshape(-1, 1)

    def prediction(self, results: Sequence[numpy.ndarray], options: Options) -> Prediction:
        """From a session's outputs: the prediction, then probabilities where there are any.

        ONNX has fewer types than the model had: labels are texts and whole numbers, trees answer in single precision.
        """
        outputs = self.signature.outputs
        typed = [
            result.astype(_DTYPES[output.datatype], copy=False) if output.datatype in _DTYPES else result
            for result, output in zip(results, outputs)  # noqa: B905  # none are known where the model refused
        ] or list(results)
        if not options.probabilities:
            return Prediction(typed[0])
        classes = self.signature.classes
        return Prediction(typed[0], typed[1], None if classes is None else list(classes))
