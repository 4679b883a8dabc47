"""How many bytes of raw array data follow a joblib `NumpyArrayWrapper`, told by its pickled attributes.

joblib writes an array as a small pickled object with `shape` and `dtype`, and then the array's bytes: one byte
that tells the padding, the padding, the data. Arrays of Python objects follow as a pickle of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightship.models.pickle_values import Dictionary, Global, Instance

MAX_DIMENSIONS = 64  # NumPy's own limit since 2.0
_HAS_OBJECT = 0x01  # NPY_ITEM_REFCOUNT of a dtype's flags
_CODE = re.compile(r"([biufcSVMmUO])(\d{1,9})")  # the form that NumPy writes: f8, i4, U12, V64
_FLEXIBLE = "SUV"
_NAMES = {"i": "int", "u": "uint", "f": "float", "c": "complex"}
_PLAIN_NAMES = {"b": "bool", "S": "bytes", "U": "text", "V": "structured", "M": "datetime", "m": "timedelta"}


@dataclass(frozen=True)
class ArrayExtent:
    """What lies between the instructions: `size` bytes of `dtype`, or a whole pickle (`pickled`)."""

    dtype: str
    size: int
    padded: bool
    pickled: bool
    shape: tuple[int, ...]


def array_extent(wrapper: Instance) -> ArrayExtent | None:
    """The extent of the data behind a wrapper; None when its attributes do not tell for certain."""
    state = wrapper.state
    if not isinstance(state, Dictionary) or state.partial or wrapper.extra is not None:
        return None
    shape, dtype = state.items.get("shape"), state.items.get("dtype")
    alignment = state.items.get("numpy_array_alignment_bytes")
    if not isinstance(dtype, Instance) or not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        return None
    count = 1
    numbers = []
    for dimension in shape:
        if type(dimension) is not int or not 0 <= dimension < 1 << 48:
            return None
        numbers.append(dimension)
        count *= dimension
    layout = _layout(dtype)
    if layout is None or count >= 1 << 62:
        return None
    name, item_size, has_objects = layout
    return ArrayExtent(name, count * item_size, alignment is not None, has_objects, tuple(numbers))


def _layout(dtype: Instance) -> tuple[str, int, bool] | None:
    """Name, bytes of an item, and whether items are Python objects; None for a dtype in no usual form."""
    code, stated = _code(dtype), _stated(dtype.extra)
    if code is None or stated is None:
        return None
    letter, number = code
    size, flags = stated
    if letter == "O":
        return "object", 8, True
    if flags & _HAS_OBJECT and letter != "V":
        return None
    if letter not in _FLEXIBLE or size < 0:
        size = number * (4 if letter == "U" else 1)
    name = f"{_NAMES[letter]}{8 * size}" if letter in _NAMES else _PLAIN_NAMES.get(letter, letter)
    return name, size, bool(flags & _HAS_OBJECT)


def _code(dtype: Instance) -> tuple[str, int] | None:
    """`f8` as letter and number, from the call `numpy.dtype("f8", False, True)` that NumPy writes."""
    arguments = dtype.arguments
    if dtype.maker != Global("numpy", "dtype") or dtype.state is not None or not isinstance(arguments, tuple):
        return None
    if arguments[1:] != (False, True) or not isinstance(arguments[0], str):
        return None
    match = _CODE.fullmatch(arguments[0])
    return (match[1], int(match[2])) if match else None


def _stated(details: object) -> tuple[int, int] | None:
    """Item size and flags of a dtype's state: (-1, 0) where it has none, None where they are no numbers.

    The state is (version, byte order, subarray, names, fields, item size, alignment, flags, ...). NumPy takes the
    item size for text and structures alone.
    """
    if details is None:
        return -1, 0
    if not isinstance(details, tuple) or len(details) < 8 or details[2] is not None:
        return None
    size, flags = details[5], details[7]
    return (size, flags) if type(size) is int and type(flags) is int else None
