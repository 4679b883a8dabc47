"""The fields of an ONNX file, read as the protocol buffers that they are.

Field numbers are those of onnx.proto3: ModelProto, GraphProto, NodeProto, TensorProto, ValueInfoProto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lightship.models.damage import damaged, readable
from lightship.models.model import Tensor
from lightship.models.protobuf import BYTES, VARINT, Field, fields, packed, signed, text
from lightship.models.stream import Stream

MAX_DEPTH = 16  # graphs within graphs
MAX_DIMENSIONS = 64
MAX_PORTS = 1_000  # inputs and outputs that are remembered
MAX_FILES = 10_000  # files of external data
MAX_INITIALIZERS = 200_000  # whose names are remembered
EXTERNAL = 1  # TensorProto.DataLocation

# TensorProto.DataType: name and bits of an element.
_TYPES = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8e4m3fn", 8),
    18: ("float8e4m3fnuz", 8),
    19: ("float8e5m2", 8),
    20: ("float8e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4e2m1", 4),
}


@dataclass
class Contents:
    """What the fields told."""

    ir_version: int | None = None
    producer: str = ""
    producer_version: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    has_graph: bool = False
    nodes: int = 0
    parameters: int = 0
    bytes_by_dtype: dict[str, int] = field(default_factory=dict)
    initializers: set[int] = field(default_factory=set)  # hashes of names
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    external: set[str] = field(default_factory=set)


def read_contents(path: Path) -> Contents:
    """What the file tells, payloads passed over.

    Raises:
        ProjectError: It is cut off or no protocol buffer.
    """
    contents = Contents()
    with readable(path), path.open("rb", buffering=0) as file:
        stream = Stream.of_file(file, path)
        end = stream.remaining
        assert end is not None
        for entry in fields(stream, end):
            match entry.number, entry.wire:
                case 1, 0:
                    contents.ir_version = entry.value
                case 2, 2:
                    contents.producer = text(stream, entry.value)[:200]
                case 3, 2:
                    contents.producer_version = text(stream, entry.value)[:200]
                case 7, 2:
                    contents.has_graph = True
                    _graph(stream, entry, contents, depth=0)
                case 8, 2:
                    _opset(stream, entry, contents)
    return contents


def _opset(stream: Stream, of: Field, contents: Contents) -> None:
    domain, version = "", 0
    for entry in fields(stream, stream.position + of.value):
        if (entry.number, entry.wire) == (1, BYTES):
            domain = text(stream, entry.value)
        elif (entry.number, entry.wire) == (2, VARINT):
            version = entry.value
    if len(contents.opsets) < MAX_PORTS:
        contents.opsets[domain] = version


def _graph(stream: Stream, of: Field, contents: Contents, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise damaged(stream.path, f"its graphs lie within each other more than {MAX_DEPTH} deep")
    for entry in fields(stream, stream.position + of.value):
        if entry.wire != BYTES:
            continue
        match entry.number:
            case 1:
                contents.nodes += 1
                _node(stream, entry, contents, depth)
            case 5:
                _tensor(stream, entry, contents)
            case 11 if depth == 0:
                _value_info(stream, entry, contents.inputs)
            case 12 if depth == 0:
                _value_info(stream, entry, contents.outputs)


def _node(stream: Stream, of: Field, contents: Contents, depth: int) -> None:
    """Attributes may hold tensors and graphs (the branches of an If)."""
    for attribute in fields(stream, stream.position + of.value):
        if (attribute.number, attribute.wire) != (5, BYTES):
            continue
        for entry in fields(stream, stream.position + attribute.value):
            if entry.wire != BYTES:
                continue
            if entry.number in (5, 10):
                _tensor(stream, entry, contents)
            elif entry.number in (6, 11):
                _graph(stream, entry, contents, depth + 1)


def _tensor(stream: Stream, of: Field, contents: Contents) -> None:
    elements, kind, name, location, external = 1, 0, "", "", False
    for entry in fields(stream, stream.position + of.value):
        match entry.number, entry.wire:
            case 1, 0:
                elements *= max(0, signed(entry.value))
            case 1, 2:  # packed dimensions
                for dimension in packed(stream, stream.position + entry.value, MAX_DIMENSIONS):
                    elements *= max(0, dimension)
            case 2, 0:
                kind = entry.value
            case 8, 2:
                name = text(stream, entry.value)
            case 13, 2:
                key, value = _pair(stream, entry)
                location = value if key == "location" else location
            case 14, 0:
                external = entry.value == EXTERNAL
        elements = min(elements, 1 << 60)
    dtype, bits = _TYPES.get(kind, ("unknown", 0))
    contents.parameters += elements
    contents.bytes_by_dtype[dtype] = contents.bytes_by_dtype.get(dtype, 0) + elements * bits // 8
    if len(contents.initializers) < MAX_INITIALIZERS:
        contents.initializers.add(hash(name))
    if external:
        if len(contents.external) >= MAX_FILES and location not in contents.external:
            raise damaged(stream.path, f"it names more than {MAX_FILES:,} files of external data")
        contents.external.add(location)


def _pair(stream: Stream, of: Field) -> tuple[str, str]:
    key = value = ""
    for entry in fields(stream, stream.position + of.value):
        if (entry.number, entry.wire) == (1, BYTES):
            key = text(stream, entry.value)
        elif (entry.number, entry.wire) == (2, BYTES):
            value = text(stream, entry.value)
    return key, value


def _value_info(stream: Stream, of: Field, found: list[Tensor]) -> None:
    name, dtype = "", "unknown"
    shape: tuple[int | str | None, ...] | None = None
    for entry in fields(stream, stream.position + of.value):
        if entry.wire != BYTES:
            continue
        if entry.number == 1:
            name = text(stream, entry.value)
        elif entry.number == 2:
            dtype, shape = _type(stream, entry)
    if len(found) < MAX_PORTS:
        found.append(Tensor(name, dtype, shape))


def _type(stream: Stream, of: Field) -> tuple[str, tuple[int | str | None, ...] | None]:
    dtype = "unknown"
    shape: tuple[int | str | None, ...] | None = None
    for entry in fields(stream, stream.position + of.value):
        if entry.wire != BYTES:
            continue
        if entry.number != 1:
            dtype = {4: "sequence", 5: "map", 8: "sparse tensor", 9: "optional"}.get(entry.number, dtype)
            continue
        for part in fields(stream, stream.position + entry.value):
            if (part.number, part.wire) == (1, VARINT):
                dtype = _TYPES.get(part.value, ("unknown", 0))[0]
            elif (part.number, part.wire) == (2, BYTES):
                shape = tuple(_shape(stream, part))
    return dtype, shape


def _shape(stream: Stream, of: Field) -> list[int | str | None]:
    shape: list[int | str | None] = []
    for entry in fields(stream, stream.position + of.value):
        if (entry.number, entry.wire) != (1, BYTES):
            continue
        dimension: int | str | None = None
        for part in fields(stream, stream.position + entry.value):
            if (part.number, part.wire) == (1, VARINT):
                dimension = signed(part.value)
            elif (part.number, part.wire) == (2, BYTES):
                dimension = text(stream, part.value) or None
        if len(shape) < MAX_DIMENSIONS:
            shape.append(dimension)
    return shape
