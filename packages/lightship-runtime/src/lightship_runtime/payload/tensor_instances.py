"""From the tensors of a request to the instances that an engine takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lightship_runtime.engines.engine import Instances, Signature
from lightship_runtime.payload.call import RequestError
from lightship_runtime.payload.parsed import bounded
from lightship_runtime.payload.tables import column_names, column_order
from lightship_runtime.payload.tensors import Tensor, nested

_TABLE = "This model takes one input of the shape [instances, {features}]"


def instances_of(tensors: Sequence[Tensor], signature: Signature) -> Instances:
    """One instance per place in the first dimension, which all inputs must agree on. Raises RequestError.

    A single input may have any name. Several are the columns of a table, or the named inputs of the model; for a
    model that takes any JSON, the members of one object per instance.
    """
    if not tensors:
        raise RequestError("There are no inputs.")
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise RequestError("An input is there twice.")
    if len({tensor.shape[0] for tensor in tensors}) > 1:
        raise RequestError("The inputs must agree in their first dimension, the number of instances.")
    if signature.kind in ("text", "image", "audio"):
        return _single(tensors, signature)
    if signature.rows:
        return _rows(tensors, signature)
    if len(tensors) == 1 and len(signature.inputs) < 2:
        return _values(tensors[0], arrays=signature.kind == "tensor")
    if signature.inputs and sorted(names) != sorted(one.name for one in signature.inputs):
        raise RequestError(f"The inputs of this model are {', '.join(one.name for one in signature.inputs)}.")
    bounded(tensors[0].shape[0])
    columns = [_values(tensor, arrays=signature.kind == "tensor") for tensor in tensors]
    return [dict(zip(names, row)) for row in zip(*columns)]  # noqa: B905  # lengths are equal


def _single(tensors: Sequence[Tensor], signature: Signature) -> list[Any]:
    tensor = tensors[0]
    if (
        len(tensors) != 1
        or tensor.datatype != "BYTES"
        or tensor.shape not in (tensor.shape[:1], (tensor.shape[0], 1))
    ):
        raise RequestError("This model takes one input of the datatype BYTES and the shape [instances].")
    if signature.kind == "text":
        return _texts(tensor)
    if any(isinstance(value, str) for value in tensor.values):
        raise RequestError("Send files as binary tensors: JSON has no bytes.")
    return list(tensor.values)


def _rows(tensors: Sequence[Tensor], signature: Signature) -> Instances:
    names = column_names(signature)
    features = signature.features or (len(names) if names else None)
    if len(tensors) == 1 and features != 1 and not (names and len(names) == 1):
        shape = tensors[0].shape
        if len(shape) != 2 or features not in (None, shape[1]):
            raise RequestError(f"{_TABLE.format(features=features or 'columns')}.")
        return _values(tensors[0], arrays=True)
    if any(tensor.shape not in (tensor.shape[:1], (tensor.shape[0], 1)) for tensor in tensors):
        hint = "" if names is None else ", or one input of the shape [instances] per column"
        raise RequestError(f"{_TABLE.format(features=features or 'columns')}{hint}.")
    if len(tensors) > 1:
        if names is None:
            raise RequestError(f"{_TABLE.format(features=features or 'columns')}: its columns have no names.")
        by_name = {tensor.name: tensor for tensor in tensors}
        tensors = [by_name[name] for name in column_order(list(by_name), signature)]
    if not any(isinstance(tensor.values, list) for tensor in tensors):
        dtypes = {tensor.values.dtype for tensor in tensors}
        if len(dtypes) == 1:
            import numpy

            return numpy.column_stack([tensor.values for tensor in tensors])
    bounded(tensors[0].shape[0])
    columns = [_flat(tensor) for tensor in tensors]
    return [list(row) for row in zip(*columns)]  # noqa: B905  # lengths are equal


def _flat(tensor: Tensor) -> list[Any]:
    if tensor.datatype == "BYTES":
        return _texts(tensor)
    return tensor.values if isinstance(tensor.values, list) else list(tensor.values.ravel().tolist())


def _values(tensor: Tensor, *, arrays: bool) -> Instances:
    """Nested lists; or the array itself, where it is one and may stay one."""
    if arrays and not isinstance(tensor.values, list):
        return tensor.values  # type: ignore[no-any-return]
    bounded(math.prod(tensor.shape[:-1]))
    return nested(_flat(tensor), tensor.shape)


def _texts(tensor: Tensor) -> list[Any]:
    try:
        return [value if isinstance(value, str) else value.decode() for value in tensor.values]
    except UnicodeDecodeError as error:
        raise RequestError("An input of texts is not valid UTF-8.") from error
