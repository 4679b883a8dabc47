"""From JSON to arrays, strictly: what is no number is refused, not converted, and every row has the same length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lightship_runtime.engines.engine import BadInstances, Instances, Signature

if TYPE_CHECKING:
    import numpy

_Number = float | None  # null is a missing value, NaN to the libraries
# By the kind of array that a model wants (numpy.dtype.kind): the kinds that may be given, and how to ask for them.
_ACCEPTED = {
    "f": ("iuf", "numbers"),
    "i": ("iu", "whole numbers"),
    "u": ("iu", "whole numbers"),
    "b": ("b", "true or false"),
    "O": ("U", "texts"),
}
_Scalar = float | str | bool | None


def matrix(instances: Instances, signature: Signature) -> numpy.ndarray:
    """Rows of numbers as float64, shape (instances, features). Raises BadInstances."""
    import numpy

    return numpy.array(_checked(_in_order(instances, signature), list[list[_Number]], signature), dtype=numpy.float64)


def table(instances: Instances, signature: Signature) -> Any:
    """Rows as scikit-learn wants them: floats where all are numbers, else objects, which it converts or refuses.

    Where the columns have names it is a DataFrame. That needs pandas, which a model trained with named columns had;
    without it, it is the plain array.
    """
    import numpy

    rows = _in_order(instances, signature)
    try:
        array = numpy.array(_checked(rows, list[list[_Number]], signature), dtype=numpy.float64)
    except BadInstances:
        checked = _checked(rows, list[list[_Scalar]], signature)
        array = numpy.empty((len(checked), len(checked[0])), dtype=object)
        array[:] = checked
    if signature.names:
        try:
            import pandas
        except ImportError:
            return array
        frame = pandas.DataFrame(array, columns=list(signature.names))
        return frame.infer_objects()
    return array


def tensor(instances: Any, dtype: str) -> numpy.ndarray:
    """Nested lists of any depth as one array of the numpy type `dtype`, instances first. Raises BadInstances."""
    import numpy

    wanted = numpy.dtype(dtype)
    accepted, words = _ACCEPTED[wanted.kind]
    try:
        array = numpy.array(instances)
    except (ValueError, OverflowError, RecursionError) as error:
        raise BadInstances("The instances must be nested lists of equal lengths.") from error
    if array.dtype.kind not in accepted:
        raise BadInstances(f"The instances must be {words}, in nested lists of equal lengths.")
    if wanted.kind in "iu" and array.size:
        limits = numpy.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            raise BadInstances(f"The instances must be whole numbers from {limits.min} to {limits.max}.")
    with numpy.errstate(over="ignore"):
        return array.astype(wanted)


def _in_order(instances: Any, signature: Signature) -> Any:
    """Rows given as objects become lists, in the order of the model's columns."""
    names = signature.names
    if names is None or not any(isinstance(instance, dict) for instance in instances):
        return instances
    rows = []
    for number, instance in enumerate(instances, 1):
        if not isinstance(instance, dict):
            rows.append(instance)
            continue
        if missing := [name for name in names if name not in instance]:
            raise BadInstances(f"Row {number} lacks the column {missing[0]!r}.")
        if len(instance) > len(names):
            raise BadInstances(f"Row {number} has columns that the model does not know.")
        rows.append([instance[name] for name in names])
    return rows


def _checked(rows: Any, kind: Any, signature: Signature) -> list[list[Any]]:
    try:
        checked: list[list[Any]] = msgspec.convert(rows, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        raise BadInstances(f"Every instance must be a row of numbers: {error}.") from error
    wanted = signature.features or len(checked[0])
    for number, row in enumerate(checked, 1):
        if len(row) != wanted:
            raise BadInstances(f"Row {number} has {len(row)} values; {wanted} are expected.")
    if not wanted:
        raise BadInstances("The rows are empty.")
    return checked
