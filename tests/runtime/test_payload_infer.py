"""The Open Inference Protocol over HTTP. tritonclient's own encoders and decoders are the oracle."""

import json
from typing import Any

import ml_dtypes
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from lightship_runtime.engines import Prediction, Signature, TensorSpec
from lightship_runtime.payload import (
    Answer,
    Call,
    RequestError,
    ServedModel,
    encode,
    model_metadata,
    parse,
    server_metadata,
)
from lightship_runtime.payload.tensors import DATATYPES, Tensor, from_bytes, to_bytes

ROWS = ServedModel("m", Signature("rows", features=2, probabilities=True, classes=("x", "y")), "3", "sklearn")
NAMED = ServedModel("m", Signature("rows", features=2, names=("a", "b")))
ANY = ServedModel("m", Signature())
TEXT = ServedModel("m", Signature("text"))
IMAGE = ServedModel("m", Signature("image"))
TENSOR = ServedModel("m", Signature("tensor"))
PAIR = ServedModel(
    "m",
    Signature(
        "tensor",
        inputs=(TensorSpec("ids", "INT64", (-1, 3)), TensorSpec("mask", "BOOL", (-1, 3))),
        outputs=(TensorSpec("logits", "FP32", (-1, 2)), TensorSpec("length", "INT32", (-1,))),
    ),
)
MODELS = (ROWS, NAMED, ANY, TEXT, IMAGE, TENSOR, PAIR)


def call(inputs: list[InferInput], outputs: list[InferRequestedOutput] | None = None, **options: Any) -> Call:
    body, length = InferenceServerClient.generate_request_body(inputs, outputs=outputs, **options)
    return Call("infer", body, "application/octet-stream", "", "", length)


def tensor(name: str, array: Any, *, binary: bool = True) -> InferInput:
    array = numpy.asarray(array)
    made = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def result(answer: Answer) -> InferResult:
    assert answer.status == 200
    return InferResult.from_response_body(answer.body, header_length=answer.json_length)


def refusal(asked: Call, model: ServedModel) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(asked, model)
    assert "secret" not in caught.value.message
    return caught.value


ARRAYS = arrays.arrays(
    st.sampled_from(["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]),
    arrays.array_shapes(min_dims=1, max_dims=4, max_side=4),
)


@given(ARRAYS, st.booleans(), st.booleans())
def test_tensors_go_in_and_out_as_tritonclient_sends_and_reads_them(array: Any, raw_in: bool, raw_out: bool) -> None:
    raw_in = raw_in or array.dtype == "f2"  # tritonclient sends FP16 as raw bytes only
    if not (raw_in and raw_out):
        array = numpy.nan_to_num(array)  # JSON has no NaN
    asked = call([tensor("x", array, binary=raw_in)], [InferRequestedOutput("predictions", binary_data=raw_out)])
    parsed = parse(asked, TENSOR)
    assert parsed.count == array.shape[0]
    found = numpy.asarray(parsed.instances)
    numpy.testing.assert_array_equal(found, array)
    if raw_in:
        assert found.dtype == array.dtype
    answer = encode(parsed, Prediction(array), TENSOR)
    assert (answer.json_length is not None) == raw_out
    echoed = result(answer).as_numpy("predictions")
    assert echoed.dtype == array.dtype
    numpy.testing.assert_array_equal(echoed, array)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_texts_go_in_and_out(texts: list[str], raw_in: bool, raw_out: bool) -> None:
    array = numpy.array([text.encode() for text in texts], dtype=object)
    if not raw_in:
        array = numpy.array(texts, dtype=object)
    given_in = InferInput("text", [len(texts)], "BYTES")
    given_in.set_data_from_numpy(array, binary_data=raw_in)
    parsed = parse(call([given_in], [InferRequestedOutput("predictions", binary_data=raw_out)]), TEXT)
    assert parsed.instances == texts
    found = result(encode(parsed, Prediction(texts), TEXT)).as_numpy("predictions")
    assert [one.decode() if isinstance(one, bytes) else one for one in found] == texts


def test_files_are_binary_bytes() -> None:
    files = numpy.array([b"\x89PNG\xff", b"\x00"], dtype=object)
    assert parse(call([tensor("image", files)]), IMAGE).instances == [b"\x89PNG\xff", b"\x00"]
    assert parse(call([tensor("image", files.reshape(2, 1))]), IMAGE).instances == [b"\x89PNG\xff", b"\x00"]
    assert refusal(v2([{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["secret"]}]), IMAGE).status == 400


@pytest.mark.parametrize("binary", [False, True])
def test_rows_are_one_tensor_or_one_per_column(binary: bool) -> None:
    whole = parse(call([tensor("any name", numpy.array([[1.0, 2.0], [3.0, 4.0]]), binary=binary)]), NAMED)
    numpy.testing.assert_array_equal(numpy.asarray(whole.instances), [[1, 2], [3, 4]])
    columns = [
        tensor("b", numpy.array([2.0, 4.0]), binary=binary),
        tensor("a", numpy.array([[1.0], [3.0]]), binary=binary),
    ]
    numpy.testing.assert_array_equal(numpy.asarray(parse(call(columns), NAMED).instances), [[1, 2], [3, 4]])
    texts = numpy.array(["red", "blue"], dtype=object)
    mixed = [tensor("b", texts, binary=binary), tensor("a", numpy.array([1, 3]), binary=binary)]
    assert parse(call(mixed), NAMED).instances == [[1, "red"], [3, "blue"]]


@pytest.mark.parametrize("binary", [False, True])
def test_several_inputs_become_one_object_per_instance(binary: bool) -> None:
    ids, mask = numpy.arange(6).reshape(2, 3), numpy.ones((2, 3), bool)
    inputs = [tensor("mask", mask, binary=binary), tensor("ids", ids, binary=binary)]
    instances = parse(call(inputs), PAIR).instances
    assert [sorted(one) for one in instances] == [["ids", "mask"]] * 2
    numpy.testing.assert_array_equal([one["ids"] for one in instances], ids)
    assert refusal(call([tensor("ids", ids), tensor("secret", mask)]), PAIR).status == 400
    assert parse(call(inputs), ANY).instances[1] == {"mask": [True] * 3, "ids": [3, 4, 5]}


def test_bf16_is_read() -> None:
    given_in = InferInput("x", [1, 2], "BF16")
    given_in.set_data_from_numpy(numpy.array([[1.5, -2.0]], ml_dtypes.bfloat16))
    numpy.testing.assert_array_equal(parse(call([given_in]), ROWS).instances, [[1.5, -2.0]])


def test_json_data_is_nested_or_flat_and_null_is_nan() -> None:
    described = {"name": "x", "shape": [2, 2], "datatype": "FP32"}
    for data in ([1, 2, 3, 4], [[1, 2], [3, 4]]):
        assert parse(v2([{**described, "data": data}]), ROWS).instances == [[1, 2], [3, 4]]
    missing = parse(v2([{**described, "data": [None, 2, 3, 4]}]), ROWS).instances
    assert missing[0][0] != missing[0][0]


def v2(inputs: Any, **others: Any) -> Call:
    return Call("infer", json.dumps({"inputs": inputs, **others}).encode())


def one(shape: Any, datatype: Any, data: Any, **others: Any) -> list[dict[str, Any]]:
    return [{"name": "x", "shape": shape, "datatype": datatype, "data": data, **others}]


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        {},
        [1],
        [{}],
        [{"name": "x", "shape": [1, 2], "datatype": "FP32"}],
        one([1, 2], "FP32", [1]),
        one([1, 2], "FP32", [1, 2, 3]),
        one([2, 2], "FP32", [1, 2]),  # MLServer believes the shape
        one([1, 3], "FP32", [1, 2, 3]),
        one([2], "FP32", [1, 2]),
        one([1, 1, 2], "FP32", [1, 2]),
        one([2, 2], "FP32", [[1, 2], [3]]),
        one([2, 2], "FP32", [[[1, 2]], [[3, 4]]]),
        one([1, -2], "FP32", [1, 2]),
        one([-1, -2], "FP32", [1, 2]),
        one([0, 2], "FP32", []),
        one([10**12, 0], "FP32", []),
        one([10**400, 2], "FP32", [1, 2]),
        one([], "FP32", []),
        one([1] * 40, "FP32", [1]),
        one([1.0, 2], "FP32", [1, 2]),
        one([1, 2], "FP32", ["secret", 2]),
        one([1, 2], "FP32", [True, 2]),
        one([1, 2], "FP32", {"secret": 1}),
        one([1, 2], "INT8", [128, 0]),
        one([1, 2], "UINT8", [-1, 0]),
        one([1, 2], "INT64", [2**63, 0]),
        one([1, 2], "UINT64", [2**64, 0]),
        one([1, 2], "INT32", [1.5, 0]),
        one([1, 2], "BOOL", [1, 0]),
        one([1, 2], "BYTES", [1, 0]),
        one([1, 2], "secret", [1, 2]),
        one([1, 2], "FP32", [1, 2], parameters={"binary_data_size": 8}),
        one([1, 2], "FP32", [1, 2], parameters={"shared_memory_region": "secret"}),
        one([1, 2], "FP32", [1, 2]) * 2,
        [*one([1, 2], "FP32", [1, 2]), {"name": "y", "shape": [2], "datatype": "FP32", "data": [1, 2]}],
    ],
)
def test_what_does_not_fit_is_a_bad_request(inputs: Any) -> None:
    assert refusal(v2(inputs), ROWS).status == 400


@pytest.mark.parametrize("others", [
    {"id": 1},
    {"id": "x" * 2000},
    {"outputs": {}},
    {"outputs": [{"name": "probabilities"}] * 2},
    {"outputs": [{"name": "predictions", "parameters": {"classification": 2}}]},
    {"outputs": [{"name": "predictions", "parameters": {"binary_data": "secret"}}]},
    {"parameters": {"binary_data_output": 1}},
    {"parameters": {"predict_proba": "secret"}},
    {"parameters": {"sequence_id": 5}},
])  # fmt: skip
def test_options_that_do_not_fit_are_a_bad_request(others: Any) -> None:
    assert refusal(v2(one([1, 2], "FP32", [1, 2]), **others), ROWS).status == 400


RAW = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
TEXTS = {"name": "x", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}


@pytest.mark.parametrize(
    ("inputs", "raw", "model"),
    [
        ([RAW], b"\0" * 7, ROWS),
        ([RAW], b"\0" * 9, ROWS),
        ([RAW, {**RAW, "name": "y"}], b"\0" * 8, ROWS),
        ([{**RAW, "shape": [2, 2]}], b"\0" * 8, ROWS),
        ([{**RAW, "shape": [2**62, 2**62]}], b"\0" * 8, ROWS),
        ([{**RAW, "parameters": {"binary_data_size": -8}}], b"\0" * 8, ROWS),
        ([{**RAW, "parameters": {"binary_data_size": 10**30}}], b"\0" * 8, ROWS),
        ([{**RAW, "parameters": {"binary_data_size": True}}], b"\0", ROWS),
        ([{**RAW, "parameters": {"binary_data_size": "8"}}], b"\0" * 8, ROWS),
        ([{**RAW, "datatype": "BOOL", "parameters": {"binary_data_size": 2}}], b"\x01\x02", ROWS),
        ([TEXTS], b"\xff\xff\xff\xff\0\0\0\0", TEXT),
        ([TEXTS], b"\0\0\0\0\x01\0\0\0", TEXT),
        ([{**TEXTS, "shape": [1]}], b"\0" * 8, TEXT),
        ([{**TEXTS, "shape": [10**15]}], b"\0" * 8, TEXT),
        ([{**TEXTS, "shape": [1]}], b"\x04\0\0\0\xff\xfe\xfd\xfc", TEXT),
    ],
)
def test_raw_bytes_that_do_not_fit_are_a_bad_request(inputs: Any, raw: bytes, model: ServedModel) -> None:
    header = json.dumps({"inputs": inputs}).encode()
    assert refusal(Call("infer", header + raw, "", "", "", len(header)), model).status == 400


@pytest.mark.parametrize("length", [-1, 0, 1, 10**9])
def test_a_wrong_header_length_is_a_bad_request(length: int) -> None:
    body = v2(one([1, 2], "FP32", [1, 2])).body
    assert refusal(Call("infer", body, "", "", "", length), ROWS).status == 400


@given(st.binary(max_size=80), st.integers(0, 300), st.none() | st.integers(-1, 300))
def test_any_damage_is_read_or_refused(damage: bytes, place: int, length: int | None) -> None:
    good = call([tensor("x", numpy.ones((1, 2))), tensor("y", numpy.array([b"abc"], dtype=object))])
    body = good.body[:place] + damage + good.body[place + len(damage) :]
    for model in MODELS:
        try:
            parsed = parse(Call("infer", body, "", "", "", good.json_length if length is None else length), model)
        except RequestError as error:
            assert error.status == 400
        else:
            assert parsed.count == len(parsed.instances) > 0


# Answers


ASKED = v2(one([2, 2], "FP64", [1, 2, 3, 4]), id="42")
LABELS = Prediction(["y", "x"], [[0.25, 0.75], [1.0, 0.0]], ["x", "y"])


def test_an_answer_names_the_model_and_echoes_the_id() -> None:
    answer = encode(parse(ASKED, ROWS), Prediction(["y", "x"]), ROWS)
    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == {
        "model_name": "m",
        "model_version": "3",
        "id": "42",
        "outputs": [{"name": "predictions", "shape": [2], "datatype": "BYTES", "data": ["y", "x"]}],
    }


@pytest.mark.parametrize("name", ["probabilities", "predict_proba"])
def test_probabilities_come_when_that_output_is_named(name: str) -> None:
    outputs = [InferRequestedOutput(name), InferRequestedOutput("predictions", binary_data=False)]
    parsed = parse(call([tensor("x", numpy.ones((2, 2)))], outputs), ROWS)
    assert parsed.options.probabilities
    found = result(encode(parsed, LABELS, ROWS))
    assert [output["name"] for output in found.get_response()["outputs"]] == [name, "predictions"]
    numpy.testing.assert_array_equal(found.as_numpy(name), LABELS.probabilities)
    assert found.as_numpy("predictions").tolist() == ["y", "x"]
    assert refusal(call([tensor("x", numpy.ones((2, 2)))], outputs), NAMED).status == 400


@pytest.mark.parametrize("wanted", [(), ("label", "score"), ("probabilities", "label"), ("predict",)])
def test_a_classifier_that_answers_with_labels_and_scores(wanted: tuple[str, ...]) -> None:
    names = (TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP64", (-1,)))
    both = (*names, TensorSpec("probabilities", "FP64", (-1, 2)))
    model = ServedModel("m", Signature("text", probabilities=True, classes=("x", "y"), outputs=both))
    asked = v2(one([2], "BYTES", ["a", "b"]), outputs=[{"name": name} for name in wanted])
    parsed = parse(asked, model)
    assert parsed.options.probabilities == ("probabilities" in wanted)
    predictions = [{"label": "y", "score": 0.75}, {"label": "x", "score": 1.0}]
    scores = LABELS.probabilities if parsed.options.probabilities else None
    found = result(encode(parsed, Prediction(predictions, scores, ["x", "y"]), model))
    assert [output["name"] for output in found.get_response()["outputs"]] == list(wanted or ("label", "score"))
    for name, values in (("label", ["y", "x"]), ("predict", ["y", "x"]), ("score", [0.75, 1.0])):
        if name in (wanted or ("label", "score")):
            assert found.as_numpy(name).tolist() == values
    if "probabilities" in wanted:
        numpy.testing.assert_array_equal(found.as_numpy("probabilities"), LABELS.probabilities)


def test_probabilities_come_with_a_parameter() -> None:
    parsed = parse(v2(one([2, 2], "FP64", [1, 2, 3, 4]), parameters={"predict_proba": True, "k": 1}), ROWS)
    assert parsed.options.probabilities
    assert parsed.options.parameters == {"k": 1}
    names = [output["name"] for output in json.loads(encode(parsed, LABELS, ROWS).body)["outputs"]]
    assert names == ["predictions", "probabilities"]


def test_all_outputs_are_raw_on_request() -> None:
    asked = call([tensor("x", numpy.ones((2, 2)))])
    assert b"binary_data_output" in asked.body
    found = result(encode(parse(asked, ROWS), Prediction(numpy.array([1, 2], "i4")), ROWS))
    assert found.get_output("predictions")["parameters"] == {"binary_data_size": 8}
    assert found.as_numpy("predictions").dtype == numpy.int32


def test_several_outputs_have_their_own_names_and_types() -> None:
    predictions = [{"logits": [0.5, 1.5], "length": 3}, {"logits": [2.5, 3.5], "length": 4}]
    inputs = [tensor("ids", numpy.ones((2, 3), int)), tensor("mask", numpy.ones((2, 3), bool))]
    found = result(encode(parse(call(inputs), PAIR), Prediction(predictions), PAIR))
    assert found.as_numpy("logits").dtype == numpy.float32
    assert found.as_numpy("length").dtype == numpy.int32
    numpy.testing.assert_array_equal(found.as_numpy("logits"), [[0.5, 1.5], [2.5, 3.5]])
    only = result(encode(parse(call(inputs, [InferRequestedOutput("length")]), PAIR), Prediction(predictions), PAIR))
    assert only.as_numpy("logits") is None
    assert refusal(call(inputs, [InferRequestedOutput("secret")]), PAIR).status == 400


@pytest.mark.parametrize(
    "predictions",
    [[{"label": "a"}, {"other": 1}], [{"label": "a"}, {"label": "b"}], [None, "a"], [[1], [2, 3]], [2**70, 1]],
)
@pytest.mark.parametrize("binary", [False, True])
def test_what_is_no_tensor_is_sent_as_json_texts(predictions: list[Any], binary: bool) -> None:
    asked = call([tensor("x", numpy.ones((2, 2)))], [InferRequestedOutput("predictions", binary_data=binary)])
    found = result(encode(parse(asked, ROWS), Prediction(predictions), ROWS)).as_numpy("predictions")
    assert [json.loads(one) for one in found] == predictions


def test_an_answer_is_valid_json_even_with_nan() -> None:
    for predictions in ([float("nan"), 1.0], numpy.array([numpy.nan, 1], "f4")):
        body = encode(parse(ASKED, ROWS), Prediction(predictions), ROWS).body
        assert json.loads(body)["outputs"][0]["data"] == [None, 1]


@pytest.mark.parametrize("datatype", sorted(set(DATATYPES) - {"BYTES", "BF16"}))
def test_raw_bytes_of_every_datatype_are_as_tritonclient_knows_them(datatype: str) -> None:
    array = numpy.array([[0, 1], [1, 0]]).astype(triton_to_np_dtype(datatype))
    made = from_bytes("x", datatype, [2, 2], memoryview(tensor("x", array)._get_binary_data()))
    assert made.values.dtype == array.dtype
    assert to_bytes(made) == array.tobytes() == to_bytes(Tensor("x", datatype, (2, 2), array.ravel().tolist()))


# Metadata


def test_metadata_say_what_is_taken_and_given() -> None:
    assert model_metadata(ROWS) == {
        "name": "m",
        "versions": ["3"],
        "platform": "sklearn",
        "inputs": [{"name": "instances", "datatype": "FP64", "shape": [-1, 2]}],
        "outputs": [
            {"name": "predictions", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
        ],
    }
    assert model_metadata(PAIR)["inputs"][1] == {"name": "mask", "datatype": "BOOL", "shape": [-1, 3]}
    assert model_metadata(TEXT)["inputs"] == [{"name": "instances", "datatype": "BYTES", "shape": [-1]}]
    assert server_metadata()["extensions"] == ["binary_tensor_data"]
