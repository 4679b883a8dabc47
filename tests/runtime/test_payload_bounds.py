"""Bodies that claim to be more than they are, or would become much more in memory: refused before that is made."""

import io
import json
import struct
from typing import Any

import numpy
import pyarrow
import pytest
from tritonclient.grpc import service_pb2

from lightship_runtime.engines import Signature
from lightship_runtime.payload import Call, RequestError, ServedModel, parse
from lightship_runtime.payload.parsed import MAX_LISTS

MANY = MAX_LISTS + 1
FLAT = [MANY]
TWICE = bytes(2 * MANY)
ROWS = ServedModel("m", Signature("rows"))
NAMED = ServedModel("m", Signature("rows", features=2, names=("a", "b")))
ANY = ServedModel("m", Signature())
TEXT = ServedModel("m", Signature("text"))


def arrow(table: pyarrow.Table) -> Call:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Call("predict", sink.getvalue().to_pybytes(), "application/vnd.apache.arrow.stream")


def npy(array: Any) -> Call:
    file = io.BytesIO()
    numpy.save(file, array)
    return Call("predict", file.getvalue(), "application/x-npy")


def infer(inputs: Any, raw: bytes = b"") -> Call:
    header = json.dumps({"inputs": inputs}).encode()
    return Call("infer", header + raw, "", "", "", len(header))


def tensor(name: str, datatype: str, size: int, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


def over_grpc(shape: list[int]) -> Call:
    message = service_pb2.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="BOOL", shape=shape).contents.bool_contents.extend([True] * MANY)
    return Call("grpc", message.SerializeToString())


BOOLS = pyarrow.array(numpy.zeros(MANY, bool))


@pytest.mark.parametrize(
    ("call", "model"),
    [
        (lambda: Call("predict", b"[" + b"[]," * MANY + b"[]]"), ROWS),
        (lambda: Call("predict", b"[" + b"{}," * MANY + b"{}]"), ANY),
        (lambda: Call("predict", b'{"a":{},"parameters":[' + b"[]," * MANY + b"[]]}"), NAMED),
        (lambda: Call("predict", b"1\n" * MANY, "text/csv"), ROWS),
        (lambda: Call("predict", b"a\r" * MANY, "text/csv"), TEXT),
        (lambda: Call("predict", b"\n" * MANY, "text/csv"), ANY),
        (lambda: arrow(pyarrow.table({"a": BOOLS, "b": BOOLS})), NAMED),
        (lambda: arrow(pyarrow.table({"t": pyarrow.array([""] * MANY)})), TEXT),
        (lambda: npy(numpy.array([""] * MANY, "U1")), TEXT),
        (lambda: infer([{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [[]] * MANY}]), ROWS),
        (lambda: infer([{"name": "x", "shape": [MANY, 1], "datatype": "FP32", "data": [1] * MANY}]), ROWS),
        (lambda: infer([tensor("x", "BOOL", MANY, [1, MANY, 1])], bytes(MANY)), ANY),
        (lambda: infer([tensor("a", "BOOL", MANY, FLAT), tensor("b", "INT8", MANY, FLAT)], TWICE), NAMED),
        (lambda: over_grpc([MANY, 1]), ANY),
    ],
)  # fmt: skip
def test_what_would_become_too_many_lists_is_too_large(call: Any, model: ServedModel) -> None:
    with pytest.raises(RequestError) as caught:
        parse(call(), model)
    assert caught.value.status == 413


def test_arrays_may_be_as_long_as_the_body() -> None:
    assert parse(npy(numpy.zeros((MANY, 2), "i1")), NAMED).count == MANY
    assert parse(infer([tensor("x", "BOOL", 2 * MANY, [MANY, 2])], bytes(2 * MANY)), NAMED).count == MANY
    column = pyarrow.array(numpy.zeros(MANY, "i1"))
    assert parse(arrow(pyarrow.table({"a": column, "b": column})), NAMED).count == MANY
    assert parse(Call("predict", b"[" + b"1," * MANY + b"1]"), ROWS).count == 1


def test_a_long_entry_of_a_dictionary_is_one_object_however_often_it_is_used() -> None:
    text = "x" * 1_000_000
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 10_000, pyarrow.int8()), [text])
    instances = parse(arrow(pyarrow.table({"t": column})), TEXT).instances
    assert len(instances) == 10_000
    assert len(set(map(id, instances))) == 1


def test_a_record_batch_that_claims_more_rows_than_it_has_bytes_is_malformed() -> None:
    body = arrow(pyarrow.table({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]})).body
    claims = body.replace(struct.pack("<q", 3), struct.pack("<q", 1 << 40))
    assert claims != body
    with pytest.raises(RequestError) as caught:
        parse(Call("predict", claims, "application/vnd.apache.arrow.stream"), NAMED)
    assert caught.value.status == 400
