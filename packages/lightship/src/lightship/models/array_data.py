"""How many bytes of raw array data follow a joblib `NumpyArrayWrapper`, told by its pickled attributes.

joblib writes an array as a small pickled object with `shape` and `dtype`, and then the array's bytes: one byte
that tells the padding, the padding, the data. Arrays of Python objects follow as a pickle of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from lightship.models.array_types import layout, product
from lightship.models.pickle_values import Dictionary, Instance


@dataclass(frozen=True)
class ArrayExtent:
    """What lies between the instructions: `size` bytes of `dtype`, or a whole pickle (`pickled`)."""

    dtype: str
    size: int
    padded: bool
    pickled: bool
    shape: tuple[object, ...]


def array_extent(wrapper: Instance) -> ArrayExtent | None:
    """The extent of the data behind a wrapper; None when its attributes do not tell for certain."""
    state = wrapper.state
    if not isinstance(state, Dictionary) or state.partial or wrapper.extra is not None:
        return None
    shape, alignment = state.items.get("shape"), state.items.get("numpy_array_alignment_bytes")
    count, item = product(shape), layout(state.items.get("dtype"))
    if count is None or item is None or item.is_subarray or not isinstance(shape, tuple):
        return None
    return ArrayExtent(item.name, count * item.size, alignment is not None, item.has_objects, shape)
