"""JSON in and out: tables as pandas, MLflow and KServe write them, files in base64, options, hostile bodies."""

import base64
import json
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship_runtime.engines import Options, Prediction, Signature, TensorSpec
from lightship_runtime.payload import Call, Parsed, RequestError, ServedModel, encode, parse

ROWS = ServedModel("m", Signature("rows", features=2, probabilities=True))
NAMED = ServedModel("m", Signature("rows", features=2, names=("a", "b")))
ANY = ServedModel("m", Signature())
TEXT = ServedModel("m", Signature("text"))
IMAGE = ServedModel("m", Signature("image"))
PICTURES = ServedModel("m", Signature("tensor", inputs=(TensorSpec("x", "FP32", (-1, 2, 2)),)))


def ask(body: Any, model: ServedModel, **call: Any) -> Parsed:
    return parse(Call("predict", body if isinstance(body, bytes) else json.dumps(body).encode(), **call), model)


@pytest.mark.parametrize(
    ("body", "model", "instances"),
    [
        ([1, 2], ROWS, [[1, 2]]),
        ([1, 2], ANY, [[1, 2]]),
        ([[1, 2], [3, 4]], ROWS, [[1, 2], [3, 4]]),
        ({"instances": [[1, 2]]}, ROWS, [[1, 2]]),
        ({"instances": [1, 2]}, ROWS, [[1, 2]]),
        ({"inputs": [[1, 2]]}, ROWS, [[1, 2]]),
        ({"inputs": "a text"}, ANY, ["a text"]),
        ({"inputs": {"question": "?"}}, ANY, [{"question": "?"}]),
        (["a", "b"], ANY, ["a", "b"]),
        (["a", 1], ROWS, [["a", 1]]),
        ([{"size": 1}, {"size": 2}], ROWS, [{"size": 1}, {"size": 2}]),
        ("a text", ANY, ["a text"]),
    ],
)
def test_the_documented_forms(body: Any, model: ServedModel, instances: list[Any]) -> None:
    assert ask(body, model).instances == instances


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"[1,",
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b"nan",
        b"[1e999]",
        b"[" * 1_000_000,
        b'{"instances": [[1]], "inputs": [[1]]}',
        b'{"instances": 1}',
        b'{"instances": []}',
        b'{"instances": [[1]], "predict_proba": "yes"}',
        b'{"rows": [[1]]}',
    ],
)
def test_what_is_none_of_them_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        ask(body, ROWS)
    assert caught.value.status == 400


@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    for model in (ROWS, NAMED, ANY, TEXT, IMAGE, PICTURES):
        try:
            assert ask(body, model).instances
        except RequestError as error:
            assert error.status == 400


@pytest.mark.parametrize("query", ["predict_proba=maybe", "&".join(["a=b"] * 99)])
def test_a_strange_query_is_a_bad_request(query: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask([1, 2], ROWS, query=query)
    assert caught.value.status == 400


FRAME = pandas.DataFrame({"b": [2.0, 4.0], "a": [1.0, 3.0]})  # not in the model's order


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": json.loads(FRAME.to_json(orient="split"))},
        json.loads(FRAME.to_json(orient="split")),
        json.loads(FRAME.to_json(orient="columns")),
        FRAME.to_dict(orient="list"),
        {"columns": FRAME.to_dict(orient="list")},
        {"inputs": FRAME.to_dict(orient="list")},
    ],
)
def test_a_table_is_put_in_the_models_order_however_it_was_written(body: Any) -> None:
    assert ask(body, NAMED).instances == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("form", [None, "instances", "inputs", "dataframe_records"])
def test_records_stay_objects_which_the_engine_puts_in_order(form: str | None) -> None:
    records = FRAME.to_dict(orient="records")
    parsed = ask(records if form is None else {form: records}, NAMED)
    assert parsed.instances == records
    assert parsed.count == 2


def test_one_object_of_the_models_columns_is_one_instance() -> None:
    assert ask({"a": 1, "b": None}, NAMED).instances == [{"a": 1, "b": None}]
    assert ask({"inputs": {"a": 1, "b": 2}}, NAMED).instances == [{"a": 1, "b": 2}]


def test_columns_of_a_model_without_names_become_rows_or_objects() -> None:
    assert ask({"columns": {"x": [1, 2], "y": [3, 4]}}, ROWS).instances == [[1, 3], [2, 4]]
    assert ask({"columns": {"x": [1, 2], "y": [3, 4]}}, ANY).instances == [{"x": 1, "y": 3}, {"x": 2, "y": 4}]


@pytest.mark.parametrize(
    "body",
    [
        {"a": [1, 2], "b": [1]},
        {"a": {"0": 1}, "b": {"1": 1}},
        {"columns": {"a": [1]}},
        {"columns": {"a": [1], "b": [1], "secret": [1]}},
        {"columns": {}},
        {"columns": ["a", "b"]},
        {"data": [[1, 2]]},
        {"columns": ["a", "a"], "data": [[1, 2]]},
        {"columns": ["a", "b"], "data": [[1, 2], [1]]},
        {"columns": ["a", "b"], "data": [[1, 2]], "instances": [[1, 2]]},
        {"dataframe_split": {"columns": ["a", "secret"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]], "secret": 1}},
        {"dataframe_records": [1]},
        {"instances": [[1, 2]], "parameters": [1]},
    ],
)
def test_a_table_that_does_not_fit_is_a_bad_request(body: Any) -> None:
    with pytest.raises(RequestError) as caught:
        ask(body, NAMED)
    assert caught.value.status == 400
    assert "secret" not in caught.value.message


def test_parameters_are_handed_to_the_engine() -> None:
    body = {"inputs": "a text", "parameters": {"candidate_labels": ["x", "y"]}}
    assert ask(body, TEXT).options == Options(parameters={"candidate_labels": ["x", "y"]})
    assert ask({"inputs": "a text", "params": {"k": 1}}, TEXT).options.parameters == {"k": 1}
    assert ask(["a text"], TEXT).options == Options()


def test_probabilities_are_asked_for_in_body_or_query() -> None:
    assert ask({"inputs": [[1, 2]], "predict_proba": True}, ROWS).options.probabilities
    assert ask([1, 2], ROWS, query="predict_proba=true").options.probabilities
    assert not ask([1, 2], ROWS, query="utm=1&predict_proba=0").options.probabilities
    with pytest.raises(RequestError, match="no probabilities"):
        ask([1, 2], NAMED, query="predict_proba")


def test_the_depth_of_lists_tells_one_tensor_from_several() -> None:
    one = [[1.0, 2.0], [3.0, 4.0]]
    assert ask(one, PICTURES).instances == [one]
    assert ask([one, one], PICTURES).instances == [one, one]
    unknown = ServedModel("m", Signature("tensor", inputs=(TensorSpec("x", "FP32", (-1,)),)))
    assert ask([1, 2, 3], unknown).count == 1
    assert ask([[1, 2, 3], [4, 5, 6]], unknown).count == 2


def test_images_are_base64_and_are_never_fetched() -> None:
    encoded = base64.b64encode(b"\x89PNG").decode()
    for body in (
        {"instances": [{"b64": encoded}]},
        {"instances": [{"image_bytes": {"b64": encoded}}]},
        {"instances": [encoded]},
        {"inputs": encoded},
        {"b64": encoded},
        [encoded],
    ):
        assert ask(body, IMAGE).instances == [b"\x89PNG"]
    for bad in ("http://127.0.0.1/x.png", "file:///etc/passwd", "", {"url": "http://x"}, 1, {"b64": 1}, "====", "é"):
        with pytest.raises(RequestError) as caught:
            ask({"instances": [bad]}, IMAGE)
        assert caught.value.status == 400


@pytest.mark.parametrize("body", [[1], [{"text": "a"}], {"columns": {"t": ["a"]}}])
def test_a_model_of_texts_takes_texts_only(body: Any) -> None:
    with pytest.raises(RequestError, match="a text"):
        ask(body, TEXT)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"instances":' * 50_000,
        b"9" * 5_000,
        b"[1e999,1]",
        b"[NaN,1]",
        b"[Infinity,1]",
        b"[1,2]]",
        b"[1,2,]",
        b"\xef\xbb\xbf[1,2]",
        b'["\\ud800"]',
        b"\x00",
        b'{"instances": [[1, 2]], "instances": 1}',
    ],
)
@pytest.mark.parametrize("model", [ROWS, ANY], ids=["rows", "any"])
def test_hostile_json_is_a_bad_request(body: bytes, model: ServedModel) -> None:
    with pytest.raises(RequestError) as caught:
        parse(Call("predict", body), model)
    assert caught.value.status == 400


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_instances_arrive_as_they_were_sent(instances: list[Any]) -> None:
    parsed = ask({"instances": instances}, ANY)
    assert parsed.instances in (instances, [instances])  # a list of numbers is one row
    answer = encode(parsed, Prediction(parsed.instances), ANY)
    assert json.loads(answer.body) == {"predictions": parsed.instances}


@given(st.dictionaries(st.sampled_from(["instances", "inputs", "columns", "data", "a", "b", "parameters"]), VALUES))
def test_any_object_is_parsed_or_refused(body: Any) -> None:
    for model in (ROWS, NAMED, ANY, TEXT, IMAGE, PICTURES):
        try:
            parsed = ask(body, model)
        except RequestError as error:
            assert error.status == 400
        else:
            assert parsed.count == len(parsed.instances) > 0


def test_an_answer_is_valid_json_whatever_the_model_gives() -> None:
    parsed = ask([[1, 2], [3, 4]], ROWS)
    array = numpy.array([numpy.nan, numpy.inf], dtype="float32")
    for predictions in (array, array.tolist(), list(array)):
        answer = encode(parsed, Prediction(predictions), ROWS)
        assert answer.status == 200
        assert json.loads(answer.body) == {"predictions": [None, None]}
    table = numpy.array([[1, 2], [3, 4]], dtype=">i2")[:, ::-1]
    assert json.loads(encode(parsed, Prediction(table, table, [1, 2]), ROWS).body) == {
        "predictions": [[2, 1], [4, 3]],
        "probabilities": [[2, 1], [4, 3]],
        "classes": [1, 2],
    }
    with pytest.raises(TypeError):
        encode(parsed, Prediction([object(), object()]), ROWS)


def test_another_number_of_predictions_is_the_models_failure() -> None:
    with pytest.raises(RuntimeError, match="1 predictions for 2 instances"):
        encode(ask([[1, 2], [3, 4]], ROWS), Prediction([1]), ROWS)
