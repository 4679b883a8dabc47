"""NumPy's own file format (.npy, application/x-npy), in and out of `POST /predict`.

In: one array, the instances first; its numbers are not copied. Its header is read by us, because all that it may
hold here is one line in the only form that NumPy writes: there is no Python in it to evaluate, and no pickle.
Numbers, booleans and texts of fixed length are taken; objects, records, dates and complex numbers are not.

Out: the predictions as an array; with `predict_proba` the probabilities instead, since there is one array per file.
"""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any

from lightship_runtime.engines.engine import Prediction, Signature
from lightship_runtime.payload.call import Answer, RequestError
from lightship_runtime.payload.parsed import Content, Inexpressible, ServedModel, bounded, need

if TYPE_CHECKING:
    import numpy

# numpy.lib.format, versions 1.0 to 3.0: magic, version, length of the header (2 or 4 bytes), header, data.
_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 4096  # bytes; NumPy writes 118 for any array that is taken here
_MAX_DIMENSIONS = 16
_HEADER = re.compile(
    r"\{'descr': '([<>|])([biufU])([0-9]{1,9})', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,18}, ?)*(?:[0-9]{1,18})?)\),? ?\} *\n?"
)
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}  # bytes; U counts characters


def read(body: bytes, signature: Signature) -> Content:
    """The instances in a file. Raises RequestError where it is malformed or holds what is not taken."""
    array = _array(body)
    if signature.rows and array.ndim == 1:
        array = array.reshape(1, -1)
    if (
        signature.kind == "tensor"
        and len(signature.inputs) == 1
        and 0 < array.ndim == len(signature.inputs[0].shape) - 1
    ):
        array = array[None]
    if array.ndim == 0:
        raise RequestError("The array has no dimension for the instances.")
    if signature.rows and (array.ndim != 2 or signature.features not in (None, array.shape[1])):
        raise RequestError(f"The array must have the shape (instances, {signature.features or 'columns'}).")
    if array.dtype.kind != "U":
        return Content(array)
    bounded(array.size)
    return Content(array.tolist())


def write(prediction: Prediction, model: ServedModel) -> Answer:
    """The answer as a file. Raises Inexpressible where it is no array of numbers or texts."""
    del model
    numpy = need("numpy", "application/x-npy")
    values = prediction.predictions if prediction.probabilities is None else prediction.probabilities
    try:
        array = numpy.asarray(values)
    except ValueError as error:
        raise Inexpressible from error
    if array.dtype.kind == "O" and all(type(value) is str for value in array.flat):
        array = array.astype(str)
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "U" and not _all_texts(values)):
        raise Inexpressible
    file = io.BytesIO()
    numpy.lib.format.write_array(file, array, allow_pickle=False)
    return Answer(200, file.getvalue(), "application/x-npy")


def _all_texts(values: Any) -> bool:
    """Whether an array of texts was one before: NumPy writes numbers as texts where the two are mixed."""
    if isinstance(values, list):
        return all(_all_texts(value) for value in values)
    return isinstance(values, str) or hasattr(values, "dtype")


def _array(body: bytes) -> numpy.ndarray:
    np = need("numpy", "application/x-npy")
    order, letter, width, fortran, shape, start = _header(body)
    size = int(width)
    if letter == "U":
        itemsize = size * 4
    elif size in _SIZES[letter]:
        itemsize = size
    else:
        raise RequestError("The array's type is not taken: use numbers, booleans, or texts of fixed length.")
    # Everything is compared with the bytes that are there before anything is made; empty arrays can claim any shape.
    count = math.prod(shape)
    if not itemsize or not count:
        raise RequestError("There is nothing to predict: the array is empty.")
    if count * itemsize != len(body) - start:
        raise RequestError("The array's shape and type do not fit the number of bytes.")
    dtype = np.dtype(f"{order}{letter}{width}")
    array = np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    if letter == "b" and array.view(np.uint8).max() > 1:
        raise RequestError("The array's booleans are not 0 or 1.")
    native: numpy.ndarray = array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    if letter == "U":
        points = native.ravel(order="K").view(np.uint32)  # NumPy itself makes texts of any numbers
        if ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any():
            raise RequestError("The array's texts are not valid Unicode.")
    return native


def _header(body: bytes) -> tuple[str, str, str, bool, tuple[int, ...], int]:
    """Byte order, kind, width, whether the first index runs fastest, shape, and where the data starts."""
    if body[:6] != _MAGIC or len(body) < 12 or body[6] not in (1, 2, 3):
        raise RequestError("The body is not an .npy file of version 1 to 3.")
    first = 10 if body[6] == 1 else 12
    start = first + int.from_bytes(body[8:first], "little")
    if start > min(len(body), _MAX_HEADER):
        raise RequestError("The .npy header is cut off, or too long.")
    header = _HEADER.fullmatch(body[first:start].decode("latin-1"))
    if header is None:
        raise RequestError("The array's type is not taken: use numbers, booleans, or texts of fixed length.")
    order, letter, width, fortran, lengths = header.groups()
    shape = tuple(int(length) for length in lengths.split(",") if length.strip())
    if len(shape) > _MAX_DIMENSIONS:
        raise RequestError(f"The array has more than {_MAX_DIMENSIONS} dimensions.")
    return order, letter, width, fortran == "True", shape, start
