"""NumPy's dtypes as pickles describe them, accepted only where every part agrees with the others.

NumPy believes the state of a pickled dtype: an item size that is not its fields', or objects where its flags deny
them, make it read memory that is not the array's. Such a dtype has no layout here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightship.models.pickle_values import Dictionary, Global, Instance

DTYPE = Global("numpy", "dtype")
MAX_DIMENSIONS = 64  # NumPy's own limit since 2.0
_HAS_OBJECT = 0x01  # NPY_ITEM_REFCOUNT of a dtype's flags
_CODE = re.compile(r"([biufcSVMmUO])(\d{1,9})")  # the form that NumPy writes: f8, i4, U12, V64
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 12, 16), "c": (8, 16, 24, 32)}
_SIZES |= {"M": (8,), "m": (8,), "O": (8,)}
_NAMES = {"i": "int", "u": "uint", "f": "float", "c": "complex"}
_PLAIN_NAMES = {
    "b": "bool",
    "S": "bytes",
    "U": "text",
    "V": "structured",
    "M": "datetime",
    "m": "timedelta",
    "O": "object",
}


@dataclass(frozen=True)
class Layout:
    """A dtype: bytes of an item, and whether items hold Python objects or are arrays themselves."""

    name: str
    size: int
    has_objects: bool
    is_subarray: bool = False


@dataclass(frozen=True)
class _State:
    """(version, byte order, subarray, names, fields, item size, alignment, flags, ...); the alignment is not used."""

    subarray: object = None
    names: object = None
    fields: object = None
    size: int = -1
    flags: int = 0


def layout(dtype: object) -> Layout | None:
    """The layout of a pickled dtype; None where it is in no usual form or contradicts itself.

    A dtype's own parts must have been settled before (`settle`), as they are in every pickle: their layouts are
    looked up, not worked out again, so that a dtype of dtypes of dtypes costs no more than its own fields.
    """
    if not isinstance(dtype, Instance):
        return None
    if dtype.extra is not None:
        return dtype.settled if isinstance(dtype.settled, Layout) else None
    return _worked_out(dtype)


def settle(dtype: Instance) -> bool:
    """Work the layout of a dtype out, now that its state is known; whether it has one."""
    dtype.settled = _worked_out(dtype)
    return dtype.settled is not None


def _worked_out(dtype: Instance) -> Layout | None:
    code, state = _code(dtype), _state(dtype.extra)
    if code is None or state is None:
        return None
    letter, number = code
    size = number * (4 if letter == "U" else 1)
    if state.size not in (-1, size) or (letter in _SIZES and size not in _SIZES[letter]):
        return None
    if letter == "V":
        return _structure(size, state)
    plain = (state.subarray, state.names, state.fields) == (None, None, None)
    if not plain or (letter != "O" and state.flags & _HAS_OBJECT):
        return None
    name = f"{_NAMES[letter]}{8 * size}" if letter in _NAMES else _PLAIN_NAMES[letter]
    return Layout(name, size, letter == "O")


def _code(dtype: Instance) -> tuple[str, int] | None:
    """`f8` as letter and number, from the call `numpy.dtype("f8", False, True)` that NumPy writes."""
    arguments = dtype.arguments
    if dtype.maker != DTYPE or dtype.state is not None or not isinstance(arguments, tuple) or len(arguments) != 3:
        return None
    code, align, copy = arguments
    if align not in (0, False) or copy not in (1, True) or not isinstance(code, str):
        return None
    match = _CODE.fullmatch(code)
    return (match[1], int(match[2])) if match else None


def _state(details: object) -> _State | None:
    if details is None:
        return _State()
    if not isinstance(details, tuple) or len(details) < 8:
        return None
    size, flags = details[5], details[7]
    if type(size) is not int or type(flags) is not int:
        return None
    return _State(details[2], details[3], details[4], size, flags)


def _structure(size: int, state: _State) -> Layout | None:
    """A structure, an array within an item, or bytes without meaning."""
    objects = bool(state.flags & _HAS_OBJECT)
    if state.subarray is not None:
        return _subarray(size, state)
    if state.names is None and state.fields is None:
        return None if objects else Layout("structured", size, False)
    names, fields = state.names, state.fields
    if not isinstance(names, tuple) or not isinstance(fields, Dictionary) or fields.partial:
        return None
    if set(names) != set(fields.items):
        return None
    inner = [_field(field, size) for field in fields.items.values()]
    if any(part is None or (part.has_objects and not objects) for part in inner):
        return None
    return Layout("structured", size, objects)


def _field(field: object, size: int) -> Layout | None:
    """A field is (dtype, offset) or (dtype, offset, title), and lies inside of the item."""
    if not isinstance(field, tuple) or len(field) not in (2, 3) or type(field[1]) is not int:
        return None
    inner, offset = layout(field[0]), field[1]
    return inner if inner and offset >= 0 and offset + inner.size <= size else None


def _subarray(size: int, state: _State) -> Layout | None:
    """(dtype, shape), of which the items together are as large as the whole."""
    if (
        not isinstance(state.subarray, tuple)
        or len(state.subarray) != 2
        or (state.names, state.fields) != (None, None)
    ):
        return None
    inner = layout(state.subarray[0])
    count = product(state.subarray[1])
    if inner is None or count is None or inner.size * count != size:
        return None
    return Layout(inner.name, size, inner.has_objects, is_subarray=True)


def product(shape: object) -> int | None:
    """The number of items of a shape; None where it is no tuple of plain numbers, or beyond what memory holds."""
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        return None
    count = 1
    for dimension in shape:
        if type(dimension) is not int or not 0 <= dimension < 1 << 48:
            return None
        count *= dimension
    return count if count < 1 << 62 else None
