"""Arrow's IPC formats, stream and file, in and out of `POST /predict`. Needs pyarrow in the image, else 415.

In: a column per feature (numbers, booleans, texts, also as dictionaries), or one column of texts, or one of binary
values for images and sounds. Nothing compressed or nested is taken, so that what is in memory is never much larger
than the body; and the metadata, where pandas leaves word of how to make a DataFrame, is not looked at.

Out: the same columns as in CSV.
"""

from __future__ import annotations

import re
from typing import Any

from lightship_runtime.engines.engine import Instances, Prediction, Signature
from lightship_runtime.payload.call import Answer, RequestError
from lightship_runtime.payload.columns import answer_columns
from lightship_runtime.payload.parsed import Content, Inexpressible, ServedModel, bounded, need
from lightship_runtime.payload.tables import column_order, from_columns

STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"
_FIRST_SAFE = (14, 0, 1)  # older ones unpickle what a schema says (CVE-2023-47248)
_MAGIC = b"ARROW1"
# Message.fbs and Schema.fbs of the format: kinds of header, and the places of fields in their tables.
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_DATA = 1
_COMPRESSION = 3


def read_stream(body: bytes, signature: Signature) -> Content:
    """The instances in a stream. Raises RequestError."""
    return _read(memoryview(body), signature)


def read_file(body: bytes, signature: Signature) -> Content:
    """The instances in a file, which is a stream between two magic words; the index at its end is not used."""
    if len(body) < 24 or body[:6] != _MAGIC or body[-6:] != _MAGIC:
        raise RequestError("The body is not an Arrow IPC file.")
    return _read(memoryview(body)[8:], signature)


def write_stream(prediction: Prediction, model: ServedModel) -> Answer:
    """The answer as a stream. Raises Inexpressible where a column has values of several types."""
    return _write(prediction, model, STREAM)


def write_file(prediction: Prediction, model: ServedModel) -> Answer:
    """The answer as a file. Raises Inexpressible where a column has values of several types."""
    return _write(prediction, model, FILE)


def _write(prediction: Prediction, model: ServedModel, media_type: str) -> Answer:
    arrow = _pyarrow()
    columns = answer_columns(prediction, model)
    try:
        table = arrow.table(
            [arrow.array(column.values) for column in columns], names=[column.name for column in columns]
        )
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise Inexpressible from error
    sink = arrow.BufferOutputStream()
    open_writer = arrow.ipc.new_stream if media_type == STREAM else arrow.ipc.new_file
    with open_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return Answer(200, sink.getvalue().to_pybytes(), media_type)


def _pyarrow() -> Any:
    arrow = need("pyarrow", "Arrow")
    version = re.match(r"(\d+)\.(\d+)\.(\d+)", arrow.__version__)
    if version is None or tuple(map(int, version.groups())) < _FIRST_SAFE:
        raise RequestError("Arrow needs pyarrow 14.0.1 or newer in the image: older ones are not safe.", 415)
    return arrow


def _read(body: memoryview, signature: Signature) -> Content:
    arrow = _pyarrow()
    buffer = arrow.py_buffer(body)
    try:
        with arrow.ipc.open_stream(buffer) as reader:
            _check_schema(arrow, reader.schema, signature)
            _refuse_compressed(arrow, buffer)
            table = reader.read_all()
        table.validate(full=True)  # without it, damaged offsets are followed wherever they point
        return Content(_instances(arrow, table, signature) if table.num_rows else [])
    except (arrow.ArrowException, ValueError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise RequestError("The body is not a valid Arrow IPC message.") from error


def _check_schema(arrow: Any, schema: Any, signature: Signature) -> None:
    """Refuse types that say more than their bytes: nested ones, views, run-lengths, nulls, extensions."""
    files = signature.kind in ("image", "audio")
    if not len(schema):
        raise RequestError("There are no columns.")
    if len(schema) != 1 and signature.kind in ("text", "image", "audio"):
        raise RequestError("This model takes one column.")
    types = arrow.types
    for place in range(len(schema)):
        kind = schema.field(place).type
        if types.is_dictionary(kind):
            kind = kind.value_type
        text = types.is_string(kind) or types.is_large_string(kind)
        number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
        binary = types.is_binary(kind) or types.is_large_binary(kind)
        if not (binary if files else text or (number and signature.kind != "text")):
            raise RequestError("A column has a type that is not taken: use numbers, booleans and texts.", 415)


def _instances(arrow: Any, table: Any, signature: Signature) -> Instances:
    if signature.kind in ("text", "image", "audio"):
        bounded(table.num_rows)
        return _values(arrow, table.column(0))
    names = [str(name) for name in table.column_names]
    order = column_order(names, signature)
    columns = [table.column(names.index(name)) for name in order]
    types = {column.type for column in columns}
    numbers = arrow.types.is_floating(columns[0].type) or (
        arrow.types.is_integer(columns[0].type) and not any(column.null_count for column in columns)
    )
    if signature.kind != "any" and len(types) == 1 and numbers:
        numpy = need("numpy", "Arrow")
        return numpy.column_stack([column.to_numpy() for column in columns])  # type: ignore[no-any-return]
    bounded(table.num_rows)
    return from_columns({name: _values(arrow, column) for name, column in zip(order, columns)}, signature)  # noqa: B905


def _values(arrow: Any, column: Any) -> list[Any]:
    """Python values. Those of a dictionary are made once, not once per use: a long one could be used often."""
    if not arrow.types.is_dictionary(column.type):
        return list(column.to_pylist())
    values: list[Any] = []
    for chunk in column.chunks:
        entries = chunk.dictionary.to_pylist()
        values += [None if index is None else entries[index] for index in chunk.indices.to_pylist()]
    return values


def _refuse_compressed(arrow: Any, buffer: Any) -> None:
    """A few compressed bytes can claim any size: look at each message before its content is made."""
    reader = arrow.ipc.MessageReader.open_stream(buffer)
    for message in iter(lambda: _next(reader), None):
        metadata = message.metadata.to_pybytes()
        table = _follow(metadata, 0)
        kind = _field(metadata, table, _HEADER_TYPE)
        header = _field(metadata, table, _HEADER)
        if kind is None or header is None or metadata[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            continue
        if metadata[kind] == _DICTIONARY_BATCH:
            header = _field(metadata, _follow(metadata, header), _DICTIONARY_DATA)
        if header is not None and _field(metadata, _follow(metadata, header), _COMPRESSION) is not None:
            raise RequestError("Compressed Arrow is not taken: write it without compression.", 415)


def _next(reader: Any) -> Any:
    try:
        return reader.read_next_message()
    except StopIteration:
        return None


# Of FlatBuffers: a table starts with the distance back to its vtable, which has its own size, the table's size, and
# then, two bytes each, where in the table the fields are; 0 where one is not set. pyarrow has verified all of them.


def _follow(data: bytes, place: int) -> int:
    return place + int.from_bytes(data[place : place + 4], "little")


def _field(data: bytes, table: int, number: int) -> int | None:
    vtable = table - int.from_bytes(data[table : table + 4], "little", signed=True)
    entry = 4 + 2 * number
    if entry + 2 > int.from_bytes(data[vtable : vtable + 2], "little"):
        return None
    offset = int.from_bytes(data[vtable + entry : vtable + entry + 2], "little")
    return table + offset if offset else None
