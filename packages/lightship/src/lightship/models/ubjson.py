"""Universal Binary JSON, read forward: texts and numbers are told by their path, arrays of numbers are skipped.

The markers are those of the UBJSON specification, draft 12, which XGBoost writes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from lightship.models.damage import damaged
from lightship.models.stream import Stream

MAX_DEPTH = 64
MAX_VALUES = 5_000_000  # of which trees have twenty each, arrays of numbers not counted
MAX_KEPT = 1024  # bytes of a text that is told

_NUMBERS = {
    "i": struct.Struct(">b"), "U": struct.Struct(">B"), "I": struct.Struct(">h"), "l": struct.Struct(">i"),
    "L": struct.Struct(">q"), "d": struct.Struct(">f"), "D": struct.Struct(">d"), "C": struct.Struct(">B"),
}  # fmt: skip
_CONSTANTS = {"T": True, "F": False, "Z": None}

Teller = Callable[[tuple[str, ...], object], None]


def walk(stream: Stream, tell: Teller) -> None:
    """Read one value; `tell(path, value)` hears of every text and number in objects and plain arrays.

    Raises:
        ProjectError: It is cut off or malformed.
    """
    _Walk(stream, tell).value(_marker(stream), ())


class _Walk:
    def __init__(self, stream: Stream, tell: Teller) -> None:
        self.stream = stream
        self.tell = tell

    def value(self, marker: str, path: tuple[str, ...]) -> None:
        self.stream.count(MAX_VALUES)
        if len(path) > MAX_DEPTH:
            raise damaged(self.stream.path, f"its values lie within each other more than {MAX_DEPTH} deep")
        if marker in _NUMBERS:
            (number,) = _NUMBERS[marker].unpack(self.stream.read(_NUMBERS[marker].size))
            self.tell(path, number)
        elif marker in _CONSTANTS:
            self.tell(path, _CONSTANTS[marker])
        elif marker == "S":
            self.text(path)
        elif marker == "{":
            self.container(path, closing="}")
        elif marker == "[":
            self.container(path, closing="]")
        else:
            raise damaged(self.stream.path, f"byte {self.stream.position - 1} is no value's marker ({marker!r})")

    def text(self, path: tuple[str, ...]) -> None:
        size = self.length(_marker(self.stream))
        if size > MAX_KEPT:
            self.stream.skip(size)
        else:
            self.tell(path, self.stream.read(size).decode("utf-8", "replace"))

    def container(self, path: tuple[str, ...], closing: str) -> None:
        marker, kind, count = _marker(self.stream), None, None
        if marker == "$":
            kind, marker = _marker(self.stream), _marker(self.stream)
            if marker != "#":
                raise damaged(self.stream.path, f"a typed array at byte {self.stream.position} has no count")
        if marker == "#":
            count = self.length(_marker(self.stream))
            if kind in _NUMBERS and closing == "]":
                self.stream.skip(count * _NUMBERS[kind].size)
                return
            if kind in _CONSTANTS and closing == "]":
                return
            marker = "" if kind or not count else _marker(self.stream)
        index = 0
        while count is None or index < count:
            if count is None and marker == closing:
                return
            key = str(index)
            if closing == "}":
                key = self.key(marker if not kind else _marker(self.stream))
                marker = kind or _marker(self.stream)
            self.value(kind or marker, (*path, key))
            index += 1
            if not kind and (count is None or index < count):
                marker = _marker(self.stream)

    def key(self, marker: str) -> str:
        size = self.length(marker)
        if size > MAX_KEPT:
            raise damaged(self.stream.path, f"a key at byte {self.stream.position} claims to be {size:,} bytes long")
        return self.stream.read(size).decode("utf-8", "replace")

    def length(self, marker: str) -> int:
        layout = _NUMBERS.get(marker) if marker in "iUIlL" else None
        size = self.stream.number(layout) if layout else -1
        if size < 0:
            raise damaged(self.stream.path, f"a length at byte {self.stream.position} is none")
        return size


def _marker(stream: Stream) -> str:
    while (code := stream.byte()) == ord("N"):  # no-operation, allowed between values
        stream.count(MAX_VALUES)
    return chr(code)
