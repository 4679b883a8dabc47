"""Tensors of the Open Inference Protocol: named, typed, shaped; as JSON, as raw bytes, as Python lists.

What a client says about a tensor's size is compared with what there is, and nothing is made before that.
Raw bytes are little-endian and row-major; a BYTES tensor is, for each element, its length in 4 bytes and then itself.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from types import GenericAlias
from typing import Any

import msgspec

from lightship_runtime.payload.call import RequestError
from lightship_runtime.payload.parsed import need

_MAX_DIMENSIONS = 16
_BF16_BITS = 16  # BF16 is the upper half of an FP32


class Datatype(msgspec.Struct, frozen=True):
    """One of the protocol's types.

    Attributes:
        name: Of the protocol.
        numpy: The type's name in NumPy, little-endian; of BF16 its bits; None for BYTES.
        size: Bytes per element; 0 for BYTES.
        json: What one element is in JSON, for msgspec.
    """

    name: str
    numpy: str | None
    size: int
    json: Any


_WIDTHS = (8, 16, 32, 64)  # bits
DATATYPES = {
    datatype.name: datatype
    for datatype in (
        Datatype("BOOL", "?", 1, bool),
        *(Datatype(f"INT{bits}", f"<i{bits // 8}", bits // 8, int) for bits in _WIDTHS),
        *(Datatype(f"UINT{bits}", f"<u{bits // 8}", bits // 8, int) for bits in _WIDTHS),
        *(Datatype(f"FP{bits}", f"<f{bits // 8}", bits // 8, float | None) for bits in (16, 32, 64)),
        Datatype("BF16", "<u2", 2, float | None),
        Datatype("BYTES", None, 0, str),
    )
}
# Of the datatypes of whole numbers: the smallest and the largest.
RANGES = {
    **{f"INT{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in _WIDTHS},
    **{f"UINT{bits}": (0, (1 << bits) - 1) for bits in _WIDTHS},
}


class Tensor(msgspec.Struct, frozen=True):
    """A tensor whose values are as many as its shape says.

    Attributes:
        name: Of the input or output.
        datatype: A key of DATATYPES.
        shape: At least one length, the first is the number of instances; none is 0 in a request.
        values: A flat list, row-major (of BYTES: bytes, or str where they came as JSON); or an array of this shape.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any


def known_datatype(name: str) -> Datatype:
    """The datatype of that name. Raises RequestError."""
    if name not in DATATYPES:
        raise RequestError(f"An input has an unknown datatype; the datatypes are {', '.join(DATATYPES)}.")
    return DATATYPES[name]


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that can be: at least one dimension, not too many, none empty. Raises RequestError."""
    if not 1 <= len(shape) <= _MAX_DIMENSIONS:
        raise RequestError(f"An input's shape has 1 to {_MAX_DIMENSIONS} dimensions.")
    if min(shape) < 0:
        raise RequestError("An input's shape has a negative length.")
    if not math.prod(shape):
        raise RequestError("There is nothing to predict: an input's shape has no elements.")
    return tuple(shape)


def from_json(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """From a JSON list, nested like the shape or flat. Raises RequestError."""
    kind, shape = known_datatype(datatype), checked_shape(shape)
    try:
        try:
            values = _decoder(datatype, 1).decode(data)
        except msgspec.ValidationError:
            if len(shape) == 1:
                raise
            values = _flat(_decoder(datatype, len(shape)).decode(data), shape)
    except msgspec.DecodeError as error:
        raise RequestError(
            f"An input's data is not a list, flat or nested like its shape, of values of its datatype {datatype}."
        ) from error
    checked_in_range(values, datatype)
    if kind.json == float | None and None in values:
        values = [math.nan if value is None else value for value in values]
    return counted(name, datatype, shape, values)


def checked_in_range(values: list[Any], datatype: str) -> list[Any]:
    """The values, if they are in the range of a datatype of whole numbers. Raises RequestError."""
    if values and datatype in RANGES:
        low, high = RANGES[datatype]
        if min(values) < low or max(values) > high:
            raise RequestError(f"An input's data is out of the range of its datatype {datatype}.")
    return values


def counted(name: str, datatype: str, shape: Sequence[int], values: list[Any]) -> Tensor:
    """A tensor of a flat list. Raises RequestError where there are more or fewer values than its shape says."""
    shape = checked_shape(shape)
    if len(values) != math.prod(shape):
        raise RequestError(f"An input has {len(values)} values, which is not what its shape says.")
    return Tensor(name, datatype, shape, values)


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> Tensor:
    """From raw bytes; numbers are not copied. Raises RequestError, 415 where the image has no NumPy for numbers."""
    kind, shape = known_datatype(datatype), checked_shape(shape)
    count = math.prod(shape)
    if kind.numpy is None:
        return Tensor(name, datatype, shape, _elements(data, count))
    if count * kind.size != len(data):
        raise RequestError(f"An input has {len(data)} bytes, which is not what its shape and datatype say.")
    numpy = need("numpy", "Binary tensors")
    array = numpy.frombuffer(data, kind.numpy)
    if datatype == "BOOL" and array.view(numpy.uint8).max() > 1:
        raise RequestError("An input of booleans has bytes that are not 0 or 1.")
    if datatype == "BF16":
        array = (array.astype("<u4") << _BF16_BITS).view("<f4")
    return Tensor(name, datatype, shape, array.reshape(shape))


def to_bytes(tensor: Tensor) -> bytes:
    """Raw bytes, of a tensor of ours."""
    kind = DATATYPES[tensor.datatype]
    if kind.numpy is None:
        encoded = [value if isinstance(value, bytes) else value.encode() for value in tensor.values]
        return b"".join(itertools.chain.from_iterable((struct.pack("<I", len(one)), one) for one in encoded))
    numpy = need("numpy", "Binary tensors")
    return bytes(numpy.ascontiguousarray(tensor.values, kind.numpy).tobytes())


def nested(values: list[Any], shape: Sequence[int]) -> list[Any]:
    """A flat list as nested lists of this shape."""
    for length in reversed(shape[1:]):
        values = [values[start : start + length] for start in range(0, len(values), length)]
    return values


@lru_cache(maxsize=256)  # of pure values: datatypes × dimensions
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    wanted: Any = DATATYPES[datatype].json
    for _ in range(depth):
        wanted = GenericAlias(list, wanted)
    return msgspec.json.Decoder(wanted)


def _flat(data: list[Any], shape: Sequence[int]) -> list[Any]:
    values = [data]
    for length in shape:
        if any(len(one) != length for one in values):
            raise RequestError("An input's data is not nested as its shape says.")
        values = list(itertools.chain.from_iterable(values))
    return values


def _elements(data: memoryview, count: int) -> list[bytes]:
    """The elements of a BYTES tensor. Each has at least the 4 bytes of its length."""
    if count * 4 > len(data):
        raise RequestError("An input of BYTES is cut off.")
    elements = []
    position = 0
    for _ in range(count):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "little")
        if position > len(data):
            raise RequestError("An input of BYTES is cut off.")
        elements.append(bytes(data[start:position]))
    if position != len(data):
        raise RequestError("An input of BYTES has more elements than its shape says.")
    return elements
