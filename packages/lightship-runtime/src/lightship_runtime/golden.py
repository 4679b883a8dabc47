"""The golden request and answer: what proves that a model works, at build time and before a server is ready.

A `golden.json` holds a request body and the answer that it must get:

    {"request": [5.1, 3.5, 1.4, 0.2], "response": {"predictions": ["setosa"]}}

`path` (default /predict) and `tolerance` (default 1e-6, relative) may be added. With `"compare": "form"` another text
or number does as well: for models that write, whose texts differ from one processor to the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

DEFAULT_TOLERANCE = 1e-6
NOISE = 1e-12  # below it a float counts as zero, which has no relative neighbourhood of its own
_SIZE_LIMIT = 64 << 20  # bytes
VECTOR = 64  # fractional numbers: such a list is a vector, whose small numbers are the rests of larger ones
_MOST_DIFFERENCES = 20
_SHOWN = 80  # characters of a value in a message


class GoldenError(ValueError):
    """The golden file cannot be read, or is not one."""


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request body, the path that it goes to with POST, and the answer that must come back."""

    request: Any
    response: Any
    path: Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$")] = "/predict"
    tolerance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = DEFAULT_TOLERANCE
    compare: Literal["answer", "form"] = "answer"

    @property
    def body(self) -> bytes:
        """The request as the JSON that is sent."""
        return msgspec.json.encode(self.request)

    def differences(self, answer: Any) -> list[str]:
        """How an answer differs from the golden one; empty where it does not."""
        if self.compare == "form":
            return list(islice(_other_form(self.response, answer, "$"), _MOST_DIFFERENCES))
        return compare(self.response, answer, self.tolerance)


def load_golden(path: Path) -> Golden:
    """Read a golden file. Raises GoldenError, with a message that names the file and the fault."""
    try:
        with path.open("rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise GoldenError(f"Could not read {path}: {error.strerror}.") from error
    if len(content) > _SIZE_LIMIT:
        raise GoldenError(f"{path} is larger than {_SIZE_LIMIT >> 20} MiB.")
    try:
        return msgspec.json.decode(content, type=Golden)
    except (msgspec.DecodeError, RecursionError) as error:
        raise GoldenError(f"{path} is not a golden request and answer: {error}.") from error


def compare(expected: Any, got: Any, tolerance: float = DEFAULT_TOLERANCE) -> list[str]:
    """How two JSON values differ, one sentence per place, at most 20; empty where they agree.

    Strings, integers, booleans and null must be equal; where either number has a fraction the two may differ by
    `tolerance`, relative to the larger; in vectors of 64 fractional numbers or more, relative to the vector's root
    mean square where that is more. Arrays must be equally long. An object may have members that the expected one does
    not name (a server's own timings, say).

    >>> compare({"predictions": [1, 0.5]}, {"predictions": [1, 0.50000001]})
    []
    >>> compare({"predictions": ["setosa"]}, {"predictions": ["virginica"]})
    ['$.predictions[0]: expected "setosa", got "virginica"']
    """
    return list(islice(_differences(expected, got, tolerance, "$"), _MOST_DIFFERENCES))


def _differences(expected: Any, got: Any, tolerance: float, place: str, noise: float = NOISE) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(got, dict):
        for name, value in expected.items():
            inner = f"{place}.{name}" if name.isidentifier() else f"{place}[{_shown(name)}]"
            if name in got:
                yield from _differences(value, got[name], tolerance, inner)
            else:
                yield f"{inner}: expected {_shown(value)}, got nothing"
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            yield f"{place}: expected {len(expected)} elements, got {len(got)}"
        noise = _noise(expected, tolerance)
        for index, (one, other) in enumerate(zip(expected, got)):  # noqa: B905  # the length is compared above
            yield from _differences(one, other, tolerance, f"{place}[{index}]", noise)
    elif not _same(expected, got, tolerance, noise):
        yield f"{place}: expected {_shown(expected)}, got {_shown(got)}"


def _noise(values: list[Any], tolerance: float) -> float:
    """By how much each number of a list may differ at least."""
    if len(values) < VECTOR or not all(type(value) is float for value in values):
        return NOISE
    return max(NOISE, tolerance * math.hypot(*values) / math.sqrt(len(values)))


def _other_form(expected: Any, got: Any, place: str) -> Iterator[str]:
    """Where the members and types of two values differ; elements of an array have the form of the first expected."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name, value in expected.items():
            inner = f"{place}.{name}" if name.isidentifier() else f"{place}[{_shown(name)}]"
            if name in got:
                yield from _other_form(value, got[name], inner)
            else:
                yield f"{inner}: expected {_type(value)}, got nothing"
    elif isinstance(expected, list) and isinstance(got, list):
        for index, each in enumerate(got if expected else ()):
            yield from _other_form(expected[0], each, f"{place}[{index}]")
    elif _type(expected) != _type(got):
        yield f"{place}: expected {_type(expected)}, got {_shown(got)}"


def _type(value: Any) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _same(expected: Any, got: Any, tolerance: float, noise: float) -> bool:
    if _is_number(expected) and _is_number(got) and (isinstance(expected, float) or isinstance(got, float)):
        return math.isclose(expected, got, rel_tol=tolerance, abs_tol=noise if tolerance else 0.0)
    return type(expected) is type(got) and bool(expected == got)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
