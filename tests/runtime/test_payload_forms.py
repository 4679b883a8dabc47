"""CSV, .npy, Arrow, texts, forms with files; which form an answer has. NumPy, pandas and pyarrow are the oracles."""

import io
import json
import subprocess
import sys
from typing import Any

import google.protobuf
import httpx
import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lightship_runtime.engines import Prediction, Signature, TensorSpec
from lightship_runtime.payload import Answer, Call, Parsed, RequestError, ServedModel, encode, parse
from lightship_runtime.payload.grpc_messages import messages

ROWS = ServedModel("m", Signature("rows", features=2, probabilities=True, classes=("x", "y")))
NAMED = ServedModel("m", Signature("rows", features=2, names=("a", "b")))
TYPED = ServedModel(
    "m",
    Signature(
        "rows", features=2, names=("a", "b"), inputs=(TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "BYTES", (-1,)))
    ),
)
ANY = ServedModel("m", Signature())
TEXT = ServedModel("m", Signature("text"))
IMAGE = ServedModel("m", Signature("image", probabilities=True))
TENSOR = ServedModel("m", Signature("tensor", inputs=(TensorSpec("x", "FP32", (-1, 2, 2)),)))
MODELS = (ROWS, NAMED, TYPED, ANY, TEXT, IMAGE, TENSOR)

CSV = "text/csv"
NPY = "application/x-npy"
STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"


def ask(body: bytes, kind: str, model: ServedModel, accept: str = "", query: str = "") -> Parsed:
    return parse(Call("predict", body, kind, accept, query), model)


def refusal(body: bytes, kind: str, model: ServedModel, accept: str = "") -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask(body, kind, model, accept)
    assert "secret" not in caught.value.message
    return caught.value


# CSV


@pytest.mark.parametrize(
    ("body", "model", "instances"),
    [
        (b"1,2\n3.5,-4e2\n", ROWS, [[1, 2], [3.5, -400.0]]),
        (b"1,2", ROWS, [[1, 2]]),
        (b"\r\n1,2\r\n\r\n3,4\r\n", ROWS, [[1, 2], [3, 4]]),
        (b"+1,.5\n5.,007\n", ROWS, [[1, 0.5], [5.0, 7]]),
        (b" 1, 2 \n", ROWS, [[1, 2]]),
        (b"1,\n,NaN\n", ROWS, [[1, None], [None, None]]),
        (b"x,y\n1,2\n", ROWS, [[1, 2]]),
        (b"\xef\xbb\xbfb,a\n2,1\n4,3\n", NAMED, [[1, 2], [3, 4]]),
        (b"b,a\nred,1\n,3\n", NAMED, [[1, "red"], [3, None]]),
        (b"1,red\n", NAMED, [[1, "red"]]),
        (b'"b","a"\n"2","1"\n', NAMED, [[1, 2]]),
        (b"b,a\n007,1\n,2\n", TYPED, [[1, "007"], [2, ""]]),
        (b"1,007\n", TYPED, [[1, "007"]]),
        (b"q,n\nwho?,1\n", ANY, [{"q": "who?", "n": 1}]),
        (b"1,2\n", ANY, [[1, 2]]),
        (b'"a, text"\nanother\n', TEXT, ["a, text", "another"]),
        (b"1_000,2\n", NAMED, [["1_000", 2]]),
        (b"inf,0x1\n", NAMED, [["inf", "0x1"]]),
        (b"1],[2\n", NAMED, [["1]", "[2"]]),
    ],
)
def test_csv_is_read(body: bytes, model: ServedModel, instances: list[Any]) -> None:
    found = ask(body, CSV, model).instances
    assert found == instances
    assert [[type(cell) for cell in row] for row in found] == [[type(cell) for cell in row] for row in instances]


def test_a_declared_header_is_believed() -> None:
    assert ask(b"text\nhello\n", "text/csv; header=present", TEXT).instances == ["hello"]
    assert ask(b"a,b\n", "text/csv; header=absent", NAMED).instances == [["a", "b"]]
    assert ask(b"1,2\n3,4\n", "text/csv; header=present", ROWS).instances == [[3, 4]]
    assert refusal(b"1,2\n", "text/csv; header=maybe", ROWS).status == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b"a,b\n",
        b"1,2\n3\n",
        b"1,2,3\n",
        b"a\n1\n",
        b"a,secret\n1,2\n",
        b"a,a,b\n1,2,3\n",
        b"a,b\n1,2,3\n",
        b'"1,2\n',
        b'"1"x,2\n',
        b"1,\xff\n",
        b"1,1e999\n",
        b"1,2\n" + b"x" * 200_000 + b",1\n",
    ],
)
def test_csv_that_does_not_fit_is_a_bad_request(body: bytes) -> None:
    assert refusal(body, CSV, NAMED).status == 400


def test_csv_in_another_charset_is_refused() -> None:
    assert refusal("é".encode("latin-1"), "text/csv; charset=ISO-8859-1", TEXT).status == 415
    assert ask("é\n".encode(), "text/csv; charset=UTF-8", TEXT).instances == ["é"]


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(FLOATS, st.integers(-(2**63), 2**63)), min_size=1, max_size=5), st.booleans(), st.booleans()
)
def test_what_pandas_writes_is_read_as_it_was(rows: list[tuple[float, int]], header: bool, quoted: bool) -> None:
    frame = pandas.DataFrame({"b": [row[1] for row in rows], "a": [row[0] for row in rows]}, dtype=object)
    text = frame[["b", "a"] if header else ["a", "b"]].to_csv(index=False, header=header, quoting=1 if quoted else 0)
    assert ask(text.encode(), CSV, NAMED).instances == [[row[0], row[1]] for row in rows]


@given(st.binary(max_size=60) | st.text(alphabet='ab1,"\n\r.-e ', max_size=40).map(str.encode))
def test_any_csv_is_read_or_refused(body: bytes) -> None:
    for model in MODELS:
        try:
            parsed = ask(body, CSV, model)
        except RequestError as error:
            assert error.status in (400, 415)
        else:
            assert parsed.count == len(parsed.instances) > 0


# .npy


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    numpy.lib.format.write_array(file, numpy.asanyarray(array), **options)
    return file.getvalue()


DTYPES = (
    arrays.integer_dtypes(endianness="?")
    | arrays.unsigned_integer_dtypes(endianness="?")
    | arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | arrays.boolean_dtypes()
)


@given(
    st.data(),
    DTYPES,
    arrays.array_shapes(min_dims=2, max_dims=4, max_side=4),
    st.sampled_from(["C", "F"]),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_what_numpy_saves_is_read_bit_for_bit(data: Any, dtype: Any, shape: Any, order: Any, version: Any) -> None:
    array = numpy.asarray(data.draw(arrays.arrays(dtype, shape)), order=order)
    found = ask(npy(array, version=version), NPY, ANY).instances
    assert found.dtype == array.dtype.newbyteorder("=")
    numpy.testing.assert_array_equal(found, array, strict=False)


def test_numbers_are_not_copied() -> None:
    body = npy(numpy.arange(8.0).reshape(4, 2))
    found = ask(body, NPY, ROWS).instances
    assert not found.flags.owndata
    assert not found.flags.writeable


def test_an_array_of_one_instance_is_recognised_by_its_dimensions() -> None:
    assert ask(npy([1.0, 2.0]), NPY, ROWS).instances.shape == (1, 2)
    assert ask(npy(numpy.ones((2, 2))), NPY, TENSOR).instances.shape == (1, 2, 2)
    assert ask(npy(numpy.ones((3, 2, 2))), NPY, TENSOR).count == 3
    assert ask(npy(["a", "bé"]), NPY, TEXT).instances == ["a", "bé"]


def header(text: str, data: bytes = b"\0" * 16) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


SIXTEEN = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }"


@pytest.mark.parametrize(
    "body",
    [
        b"\x93NUMPY",
        b"\x93NUMPY\x04\x00" + b"\0" * 20,
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"\0" * 20,
        header(SIXTEEN, b""),
        header(SIXTEEN, b"\0" * 17),
        header(SIXTEEN.replace("(1, 2)", "(0, 2)"), b""),
        header(SIXTEEN.replace("(1, 2)", f"({10**17}, {10**17})")),
        header(SIXTEEN.replace("(1, 2)", f"(0, {10**17})"), b""),
        header(SIXTEEN.replace("(1, 2)", "(-1, -2)")),
        header(SIXTEEN.replace("(1, 2)", "(" + "1, " * 20 + "2)")),
        header(SIXTEEN.replace("<f8", "|O")),
        header(SIXTEEN.replace("<f8", "<M8[s]")),
        header(SIXTEEN.replace("<f8", "<c8")),
        header(SIXTEEN.replace("<f8", "<f16")),
        header(SIXTEEN.replace("<f8", "<U0").replace("(1, 2)", f"({10**12},)"), b""),
        header(SIXTEEN.replace("'<f8'", "[('a', '<f8')]")),
        header(SIXTEEN.replace("(1, 2)", "__import__('os').abort()")),
        header("(" * 3000),
        header(" " * 60_000),
        header(SIXTEEN.replace("<f8", "|b1").replace("(1, 2)", "(8, 2)"), b"\x02" * 16),
        npy(numpy.array(5.0)),
        npy(numpy.ones((2, 3))),
        npy(numpy.ones((2, 2, 2))),
        npy([{"a": 1}], allow_pickle=True),
    ],
)
def test_hostile_arrays_are_refused(body: bytes) -> None:
    assert refusal(body, NPY, ROWS).status == 400


def test_texts_that_are_no_unicode_are_refused() -> None:
    body = header("{'descr': '<U2', 'fortran_order': False, 'shape': (2,), }", b"\xff" * 16)
    assert refusal(body, NPY, TEXT).status == 400
    assert refusal(body.replace(b"<U2", b">U2"), NPY, TEXT).status == 400
    surrogates = header("{'descr': '<U2', 'fortran_order': False, 'shape': (2,), }", b"\x00\xd8\x00\x00" * 4)
    assert refusal(surrogates, NPY, TEXT).status == 400


@given(st.binary(max_size=80), st.integers(0, 120))
def test_any_damage_to_an_array_is_read_or_refused(damage: bytes, place: int) -> None:
    body = npy(numpy.ones((2, 2)))
    for model in MODELS:
        try:
            ask(body[:place] + damage + body[place + len(damage) :], NPY, model)
        except RequestError as error:
            assert error.status == 400


# Arrow


def arrow(table: pyarrow.Table, kind: str = STREAM, compression: str | None = None) -> bytes:
    sink = pyarrow.BufferOutputStream()
    opened = pyarrow.ipc.new_stream if kind == STREAM else pyarrow.ipc.new_file
    with opened(sink, table.schema, options=pyarrow.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=2)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("kind", [STREAM, FILE])
def test_arrow_is_read_in_the_models_order(kind: str) -> None:
    floats = pyarrow.table({"b": [2.0, 4.0, 6.0], "a": [1.0, 3.0, None]})
    found = ask(arrow(floats, kind), kind, NAMED).instances
    numpy.testing.assert_array_equal(found, [[1, 2], [3, 4], [numpy.nan, 6]])
    mixed = pyarrow.table({"b": pyarrow.array(["x", "y", "x"]).dictionary_encode(), "a": [1, None, 3]})
    assert ask(arrow(mixed, kind), kind, NAMED).instances == [[1, "x"], [None, "y"], [3, "x"]]
    assert ask(arrow(mixed, kind), kind, ANY).instances[1] == {"b": "y", "a": None}
    assert ask(arrow(pyarrow.table({"t": ["a", "é"]}), kind), kind, TEXT).instances == ["a", "é"]
    assert ask(arrow(pyarrow.table({"t": [b"\x89", b"\xff"]}), kind), kind, IMAGE).instances == [b"\x89", b"\xff"]


def test_a_frame_of_pandas_is_read() -> None:
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": pandas.Categorical(["x", "y"])})
    assert ask(arrow(pyarrow.Table.from_pandas(frame)), STREAM, NAMED).instances == [[1.0, "x"], [2.0, "y"]]


@pytest.mark.parametrize("kind", [STREAM, FILE])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_arrow_is_refused(kind: str, compression: str) -> None:
    plain = pyarrow.table({"a": [1.0], "b": [2.0]})
    assert refusal(arrow(plain, kind, compression), kind, NAMED).status == 415
    encoded = pyarrow.table({"a": pyarrow.array(["x"]).dictionary_encode(), "b": [2.0]})
    assert refusal(arrow(encoded, kind, compression), kind, NAMED).status == 415


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.nulls(3),
        pyarrow.array([[1], [2], [3]]),
        pyarrow.array([{"x": 1}, {"x": 2}, {"x": 3}]),
        pyarrow.array([1, 2, 3], pyarrow.timestamp("s")),
        pyarrow.array([b"1", b"2", b"3"]),
        pyarrow.RunEndEncodedArray.from_arrays([3], [1.0]),
        pyarrow.array(["a", "b", "c"], pyarrow.string_view()),
        pyarrow.array([b"", b"", b""], pyarrow.binary(0)),
    ],
    ids=lambda column: str(column.type),
)
def test_arrow_types_that_say_more_than_their_bytes_are_refused(column: pyarrow.Array) -> None:
    table = pyarrow.table({"a": column, "b": [1.0, 2.0, 3.0]})
    assert refusal(arrow(table), STREAM, NAMED).status == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ARROW1",
        b"x" * 100,
        arrow(pyarrow.table({"a": pyarrow.array([], "f8"), "b": pyarrow.array([], "f8")})),
        arrow(pyarrow.table({"a": [1.0], "secret": [1.0]})),
        arrow(pyarrow.table([[1.0], [2.0], [3.0]], names=["a", "b", "b"])),
        arrow(pyarrow.table({"a": [1.0], "b": [1.0]}))[:-200],
        arrow(pyarrow.table({"a": [1.0], "bbbbbbbb": [1.0]})).replace(b"bbbbbbbb", b"bbbbbbb\xe1"),
    ],
)
def test_arrow_that_does_not_fit_is_a_bad_request(body: bytes) -> None:
    assert refusal(body, STREAM, NAMED).status == 400


@given(st.integers(0, 700), st.binary(min_size=1, max_size=8))
def test_any_damage_to_arrow_is_read_or_refused(place: int, damage: bytes) -> None:
    body = arrow(pyarrow.table({"a": pyarrow.array(["x", "y", "x"]).dictionary_encode(), "b": [1.0, None, 3.0]}))
    for model in (NAMED, ANY):
        try:
            parsed = ask(body[:place] + damage + body[place + len(damage) :], STREAM, model)
        except RequestError as error:
            assert error.status in (400, 415)
        else:
            assert parsed.count < 100


# Texts and files


def test_a_body_may_be_one_text() -> None:
    assert ask("grüße\n".encode(), "text/plain; charset=utf-8", TEXT).instances == ["grüße\n"]
    assert refusal(b"\xff", "text/plain", TEXT).status == 400
    assert refusal(b"1,2", "text/plain", ROWS).status == 415


def test_a_body_may_be_one_image() -> None:
    for kind in ("image/png", "application/octet-stream", "IMAGE/JPEG"):
        assert ask(b"\x89PNG", kind, IMAGE).instances == [b"\x89PNG"]
    assert refusal(b"RIFF", "audio/wav", IMAGE).status == 415
    assert refusal(b"\x89PNG", "image/png", ROWS).status == 415
    assert refusal(b"\x80\x04.", "application/octet-stream", ROWS).status == 415


def form(files: list[Any], data: dict[str, str] | None = None) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x/", files=files, data=data)
    return request.read(), request.headers["content-type"]


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5))
def test_files_in_a_form_arrive_as_they_were(files: list[bytes]) -> None:
    body, kind = form([("file", (f"{number}.png", file, "image/png")) for number, file in enumerate(files)])
    assert ask(body, kind, IMAGE).instances == files


def test_a_form_has_options() -> None:
    fields = {"predict_proba": "true", "parameters": '{"top_k": 2}'}
    body, kind = form([("file", ("a.png", b"\x89"))], fields)
    parsed = ask(body, kind, IMAGE)
    assert parsed.options.probabilities
    assert parsed.options.parameters == {"top_k": 2}
    assert ask(body.replace(b"boundary", b"boundary"), kind.lower(), IMAGE).count == 1
    assert refusal(body, kind, ROWS).status == 415


KIND = "multipart/form-data; boundary=B"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", KIND),
        (b"--B--", KIND),
        (b"x--B--", KIND),
        (b"--B", KIND),
        (b"--B\r\n", KIND),
        (b"--B\r\n\r\n\r\n--B--", KIND),
        (b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\ndata', KIND),
        (b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n\r\n--B--', KIND),
        (b'--B\r\nContent-Disposition: form-data; filename="x"\r\n\r\nx\r\n--B--', KIND),
        (b'--B\r\nContent-Disposition: form-data; name="secret"\r\n\r\nx\r\n--B--', KIND),
        (b'--B\r\nContent-Disposition: form-data; name="parameters"\r\n\r\n[]\r\n--B--', KIND),
        (b'--B\r\nContent-Disposition: form-data; name="predict_proba"\r\n\r\nsecret\r\n--B--', KIND),
        (
            b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\neA==\r\n--B--",
            KIND,
        ),
        (b"--B\r\n" + b"x: y\r\n" * 10_000, KIND),
        (b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nx\r\n' * 2000 + b"--B--", KIND),
        (b"--B\r\nx y\r\n\r\nx\r\n--B--", KIND),
        (b"--B--", "multipart/form-data"),
        (b"--B--", "multipart/form-data; boundary=" + "B" * 71),
        (b"--B--", 'multipart/form-data; boundary="B\r\n"'),
        (b"--" + b"-" * 100_000, "multipart/form-data; boundary=-"),
    ],
)
def test_a_form_that_is_malformed_is_a_bad_request(body: bytes, kind: str) -> None:
    assert refusal(body, kind, IMAGE).status in (400, 415)


@given(
    st.lists(
        st.sampled_from([b"--B", b"\r\n", b"--", b": ", b"form-data", b'name="f"', b"x", b"Content-Disposition"])
    )
)
def test_any_form_is_read_or_refused(pieces: list[bytes]) -> None:
    try:
        ask(b"--B" + b"".join(pieces), KIND, IMAGE)
    except RequestError as error:
        assert error.status == 400


# Which form


@pytest.mark.parametrize(
    ("kind", "accept", "answered"),
    [
        ("application/json", "", "application/json"),
        ("application/json", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("application/json", "text/csv", "text/csv"),
        ("application/json", "text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("application/json", "text/csv;q=0.5, application/json;q=0.6", "application/json"),
        ("application/json", "text/*", "text/csv"),
        ("application/json", "application/json;q=0, */*", "text/csv"),
        ("application/json", NPY, NPY),
        ("application/json", STREAM, STREAM),
        ("application/json", FILE, FILE),
        ("application/vnd.acme+json; charset=utf-8", "*/*", "application/json"),
        (CSV, "", "text/csv"),
        (CSV, "*/*", "text/csv"),
        (CSV, "application/json", "application/json"),
        (CSV, "application/json;q=zero", "text/csv"),
    ],
)
def test_the_answer_has_the_form_that_was_asked_for(kind: str, accept: str, answered: str) -> None:
    body = b"1,2\n" if kind == CSV else b"[[1, 2]]"
    answer = encode(ask(body, kind, ROWS, accept), Prediction([1.5]), ROWS)
    assert answer.status == 200
    assert answer.content_type.partition(";")[0] == answered


def test_what_cannot_be_answered_is_refused_before_the_body_is_read() -> None:
    assert refusal(b"not JSON", "application/json", ROWS, "image/png").status == 406
    assert refusal(b"[1, 2]", "application/json", ROWS, "*/*;q=0").status == 406


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-pickle",
        "application/python-pickle",
        "application/x-www-form-urlencoded",
        "text/xml",
        "x",
        "a/b;c",
    ],
)
def test_other_types_are_not_taken_and_pickle_is_none_of_ours(kind: str) -> None:
    assert refusal(b"\x80\x04N.", kind, ANY).status == 415


def reply(prediction: Prediction, accept: str, kind: str = "application/json", count: int = 2) -> Answer:
    body = {CSV: b"1,2\n" * count, NPY: npy(numpy.ones((count, 2)))}.get(kind, json.dumps([[1, 2]] * count).encode())
    return encode(ask(body, kind, ROWS, accept), prediction, ROWS)


PROBABILITIES = [[0.25, 0.75], [1.0, 0.0]]


@pytest.mark.parametrize("array", [False, True])
def test_answers_as_tables(array: bool) -> None:
    scores = numpy.array(PROBABILITIES) if array else PROBABILITIES
    prediction = Prediction(numpy.array(["y", "x,"]) if array else ["y", "x,"], scores)
    wanted = pandas.DataFrame({"prediction": ["y", "x,"], "probability_x": [0.25, 1.0], "probability_y": [0.75, 0.0]})
    read = pandas.read_csv(io.BytesIO(reply(prediction, CSV).body))
    pandas.testing.assert_frame_equal(read, wanted)
    for kind, opened in ((STREAM, pyarrow.ipc.open_stream), (FILE, pyarrow.ipc.open_file)):
        table = opened(reply(prediction, kind).body).read_all()
        assert table.to_pydict() == wanted.to_dict(orient="list")
    numpy.testing.assert_array_equal(numpy.load(io.BytesIO(reply(prediction, NPY).body)), PROBABILITIES)
    texts = numpy.load(io.BytesIO(reply(Prediction(["y", "x,"]), NPY).body), allow_pickle=False)
    assert texts.tolist() == ["y", "x,"]


def test_answers_of_other_shapes_as_tables() -> None:
    assert (
        reply(Prediction([[1, 2.5], [3, float("nan")]]), CSV).body == b"prediction_0,prediction_1\r\n1,2.5\r\n3,\r\n"
    )
    assert reply(Prediction([{"a": 1, "b": [1]}, {"a": None, "b": [2]}]), CSV).body == b"a,b\r\n1,[1]\r\n,[2]\r\n"
    assert reply(Prediction([[1], [2, 3]]), CSV).body == b'prediction\r\n[1]\r\n"[2,3]"\r\n'
    cube = numpy.arange(8).reshape(2, 2, 2)
    assert b"prediction_0" in reply(Prediction(cube), CSV).body
    numpy.testing.assert_array_equal(numpy.load(io.BytesIO(reply(Prediction(cube), NPY).body)), cube)


@pytest.mark.parametrize("predictions", [[{"a": 1}, {"b": 1}], [[1], [2, 3]], ["a", 1], [None, 1], [2**70, 1]])
def test_an_answer_that_has_no_such_form_is_json_unless_it_was_asked_for(predictions: list[Any]) -> None:
    assert reply(Prediction(predictions), NPY).status == 406
    assert json.loads(reply(Prediction(predictions), "", NPY).body)["predictions"] == predictions


@given(arrays.arrays(st.sampled_from(["f4", "f8", "i4", "u1", "?", "U3"]), arrays.array_shapes(max_dims=3)))
def test_predictions_come_back_bit_for_bit_as_npy(predictions: Any) -> None:
    answer = reply(Prediction(predictions), NPY, count=len(predictions))
    found = numpy.load(io.BytesIO(answer.body), allow_pickle=False)
    numpy.testing.assert_array_equal(found, predictions)
    assert found.dtype == predictions.dtype


# Libraries that are not there


HEAVY = ("numpy", "pandas", "pyarrow", "google.protobuf", "grpc")


def test_no_format_is_imported_before_it_is_needed() -> None:
    program = f"import sys, lightship_runtime.payload; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_image_without_the_libraries_still_speaks_json_and_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    body = npy(numpy.ones((1, 2)))
    for name in (*HEAVY, "google.protobuf.message"):
        monkeypatch.setitem(sys.modules, name, None)
    messages.cache_clear()
    for accept, answered in (("", "application/json"), (f"{NPY}, {STREAM}, text/csv;q=0.1", "text/csv")):
        answer = encode(ask(b"[1, 2]", "application/json", ROWS, accept), Prediction([1]), ROWS)
        assert answer.content_type.partition(";")[0] == answered
    assert encode(ask(b"[1, 2]", "application/json", ROWS, STREAM), Prediction([1]), ROWS).status == 406
    assert encode(ask(b"1,2", CSV, ROWS), Prediction([1]), ROWS).body == b"prediction\r\n1\r\n"
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    parsed = parse(Call("infer", json.dumps({"inputs": [tensor]}).encode()), ROWS)
    assert parsed.instances == [[1, 2]]
    assert b"predictions" in encode(parsed, Prediction([1]), ROWS).body
    assert refusal(body, NPY, ROWS).status == 415
    assert refusal(b"ARROW1", STREAM, ROWS).status == 415
    with pytest.raises(RequestError) as caught:
        parse(Call("grpc", b""), ROWS)
    assert caught.value.status == 501


def test_a_protobuf_that_crashes_on_hostile_messages_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google.protobuf, "__version__", "4.24.4")
    messages.cache_clear()
    with pytest.raises(ImportError, match="older than"):
        messages()


def test_a_pyarrow_that_unpickles_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    body = arrow(pyarrow.table({"a": [1.0], "b": [2.0]}))
    monkeypatch.setattr(pyarrow, "__version__", "14.0.0")
    assert refusal(body, STREAM, NAMED).status == 415
