"""JSON documents inside and beside models, read with a bound and into a stated shape."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from lightship.models.damage import damaged, readable

MAX_DOCUMENT = 32 << 20  # bytes; the index of the largest published models has a few MiB

T = TypeVar("T")


def decode(data: bytes, shape: type[T], path: Path, what: str = "it") -> T:
    """JSON text as a value of `shape`; unknown keys are passed over.

    Raises:
        ProjectError: It is no JSON, or of another shape. `what` names the document when it is part of `path`.
    """
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise damaged(path, f"{what} is not the JSON that was expected ({error})") from None


def read_document(path: Path, shape: type[T]) -> T:
    """A JSON file as a value of `shape`."""
    return decode(read_bounded(path, MAX_DOCUMENT), shape, path)


def read_bounded(path: Path, limit: int) -> bytes:
    """A whole small file.

    Raises:
        ProjectError: It has more than `limit` bytes or cannot be read.
    """
    with readable(path), path.open("rb") as file:
        data = file.read(min(limit, path.stat().st_size) + 1)  # read() makes room for all that it is asked for
    if len(data) > limit:
        raise damaged(path, f"it has more than {limit >> 10:,} KiB, which no such file needs")
    return data
