"""Protocol buffers' wire format, read forward: fields one after the other, payloads skipped unless asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightship.models.damage import damaged
from lightship.models.stream import Stream

MAX_NAME = 4096  # bytes
MAX_FIELDS = 10_000_000  # in a whole file; graphs of 100,000 nodes have a tenth

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Field:
    """One field: its number and wire type, and for VARINT its value, else its payload's size in bytes."""

    number: int
    wire: int
    value: int


def fields(stream: Stream, end: int) -> Iterator[Field]:
    """The fields up to the position `end`. What of a payload is not read while its field is at hand is skipped.

    Raises:
        ProjectError: A field is malformed or reaches beyond `end`.
    """
    while stream.position < end:
        stream.count(MAX_FIELDS)
        key = varint(stream)
        number, wire = key >> 3, key & 7
        if not number:
            raise damaged(stream.path, f"a field at byte {stream.position} has no number")
        if wire == VARINT:
            yield Field(number, wire, varint(stream))
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if wire == BYTES:
            size = varint(stream)
        if size is None:
            raise damaged(stream.path, f"a field at byte {stream.position} has the unknown wire type {wire}")
        payload_end = stream.position + size
        if payload_end > end:
            raise damaged(stream.path, f"a field at byte {stream.position} reaches beyond what holds it")
        yield Field(number, wire, size)
        if stream.position > payload_end:
            raise damaged(stream.path, f"a field that ends at byte {payload_end} is malformed")
        stream.skip(payload_end - stream.position)
    if stream.position != end:
        raise damaged(stream.path, f"a field reaches beyond byte {end}")


def varint(stream: Stream) -> int:
    """A number in groups of seven bits, at most 64 bits."""
    value = shift = 0
    while shift < 70:
        byte = stream.byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF
        shift += 7
    raise damaged(stream.path, f"a number at byte {stream.position} has no end")


def text(stream: Stream, size: int) -> str:
    """A text field's payload: a name, of at most MAX_NAME bytes."""
    if size > MAX_NAME:
        raise damaged(stream.path, f"a name at byte {stream.position} claims to be {size:,} bytes long")
    return stream.read(size).decode("utf-8", "replace")


def packed(stream: Stream, end: int, most: int) -> list[int]:
    """Signed numbers without keys up to the position `end`, the first `most` of them."""
    values: list[int] = []
    while stream.position < end and len(values) < most:
        values.append(signed(varint(stream)))
    return values


def signed(value: int) -> int:
    """A varint as the signed 64-bit number that it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value
