"""From instances to arrays, strictly: what is no number is refused, not converted, and every row has the same length.

Rules for types, whichever format a request came in:

* Rows of a table reach the model as float64, so that one row gets one answer in JSON and in every binary format.
* A tensor reaches the model as the type that it takes. Whole numbers may stand for floats, never floats for whole
  numbers, and whole numbers must be in range; floats become narrower or wider ones.
* true and false are no numbers, and texts are never read as numbers. Only scikit-learn gets rows with such values as
  they are, because its encoders take them; a model without encoders converts or refuses them.

Arrays pass without becoming lists, and without being copied where they have the right type already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lightship_runtime.engines.engine import BadInstances, Instances, Signature

if TYPE_CHECKING:
    import numpy

_Number = float | None  # null is a missing value, NaN to the libraries
_Scalar = float | str | bool | None
_Exact = int | float | str | bool | None
# By the kind of array that a model wants (numpy.dtype.kind): the kinds that may be given, and how to ask for them.
_ACCEPTED = {
    "f": ("iuf", "numbers"),
    "i": ("iu", "whole numbers"),
    "u": ("iu", "whole numbers"),
    "b": ("b", "true or false"),
    "O": ("U", "texts"),
}


def matrix(instances: Instances, signature: Signature) -> numpy.ndarray:
    """Rows of numbers as float64, shape (instances, features). Raises BadInstances."""
    import numpy

    if not isinstance(instances, list):
        return _rows_of_array(instances, signature)
    return numpy.array(_checked(in_order(instances, signature), list[list[_Number]], signature), dtype=numpy.float64)


def table(instances: Instances, signature: Signature) -> Any:
    """Rows as scikit-learn wants them: floats where all are numbers, else objects, which it converts or refuses.

    Where the columns have names it is a DataFrame. That needs pandas, which a model trained with named columns had;
    without it, it is the plain array.
    """
    import numpy

    try:
        array = matrix(instances, signature)
    except BadInstances:
        rows = instances if isinstance(instances, list) else instances.tolist()
        array = objects(_checked(in_order(rows, signature), list[list[_Scalar]], signature))
    if signature.names is None:
        return array
    try:
        import pandas
    except ImportError:
        return array
    frame = pandas.DataFrame(array, columns=list(signature.names))
    return frame.infer_objects() if array.dtype == numpy.object_ else frame


def exact_rows(instances: Instances, signature: Signature) -> list[list[Any]]:
    """Rows of scalars as they came: a whole number stays one, which matters to categories. Raises BadInstances."""
    rows = instances if isinstance(instances, list) else instances.tolist()
    return _checked(in_order(rows, signature), list[list[_Exact]], signature)


def objects(rows: list[list[Any]]) -> numpy.ndarray:
    """Rows of any scalars as an array of objects, shape (rows, columns)."""
    import numpy

    array = numpy.empty((len(rows), len(rows[0])), dtype=object)
    array[:] = rows
    return array


def tensor(instances: Any, dtype: str) -> numpy.ndarray:
    """Nested lists of any depth, or an array, as an array of the numpy type `dtype`, instances first.

    Raises BadInstances.
    """
    import numpy

    wanted = numpy.dtype(dtype)
    accepted, words = _ACCEPTED[wanted.kind]
    try:
        array = numpy.asarray(instances)
    except (ValueError, OverflowError, RecursionError) as error:
        raise BadInstances("The instances must be nested lists of equal lengths.") from error
    if array.dtype == wanted and wanted.kind != "O":
        return array
    if array.dtype.kind not in accepted and not _all_texts(array, wanted):
        raise BadInstances(f"The instances must be {words}, in nested lists of equal lengths.")
    if wanted.kind in "iu" and array.size:
        limits = numpy.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            raise BadInstances(f"The instances must be whole numbers from {limits.min} to {limits.max}.")
    with numpy.errstate(over="ignore"):
        return array.astype(wanted, copy=False)


def in_order(instances: Any, signature: Signature) -> Any:
    """Rows given as objects become lists, in the order of the model's columns. Raises BadInstances."""
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


def _rows_of_array(array: numpy.ndarray, signature: Signature) -> numpy.ndarray:
    if array.dtype.kind not in "iuf":
        raise BadInstances("Every instance must be a row of numbers.")
    if array.ndim != 2 or not array.shape[1] or signature.features not in (None, array.shape[1]):
        wanted = signature.features or "columns"
        raise BadInstances(f"The array must have the shape (instances, {wanted}).")
    return array.astype("float64", copy=False)


def _all_texts(array: numpy.ndarray, wanted: numpy.dtype) -> bool:
    return wanted.kind == array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat)


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
