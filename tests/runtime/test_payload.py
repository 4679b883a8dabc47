"""Bodies in, answers out: the documented forms, and nothing but a RequestError for all others."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship_runtime.engines import Prediction, Signature
from lightship_runtime.payload import RequestError, encode_answer, parse_request, wants_probabilities

ROWS = Signature("rows", features=2, probabilities=True)
ANYTHING = Signature()


@pytest.mark.parametrize(
    ("body", "signature", "instances"),
    [
        ([1, 2], ROWS, [[1, 2]]),
        ([1, 2], ANYTHING, [[1, 2]]),
        ([[1, 2], [3, 4]], ROWS, [[1, 2], [3, 4]]),
        ({"instances": [[1, 2]]}, ROWS, [[1, 2]]),
        ({"instances": [1, 2]}, ROWS, [[1, 2]]),
        ({"inputs": [[1, 2]]}, ROWS, [[1, 2]]),
        ({"inputs": "a text"}, ANYTHING, ["a text"]),
        ({"inputs": {"question": "?"}}, ANYTHING, [{"question": "?"}]),
        (["a", "b"], ANYTHING, ["a", "b"]),
        (["a", 1], ROWS, [["a", 1]]),
        ([{"size": 1}, {"size": 2}], ROWS, [{"size": 1}, {"size": 2}]),
        ("a text", ANYTHING, ["a text"]),
    ],
)
def test_the_documented_forms(body: Any, signature: Signature, instances: list[Any]) -> None:
    assert parse_request(json.dumps(body).encode(), signature).instances == instances


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
        parse_request(body, ROWS)
    assert caught.value.status == 400


@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    for signature in (ROWS, ANYTHING):
        try:
            assert parse_request(body, signature).instances
        except RequestError as error:
            assert error.status == 400


def test_refusals_do_not_quote_the_request() -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(json.dumps({"secret-" * 1000: 1}).encode(), ROWS)
    assert "secret" not in caught.value.message


def test_probabilities_are_asked_for_in_body_or_query() -> None:
    assert parse_request(b'{"inputs": [[1]], "predict_proba": true}', ROWS).probabilities
    assert parse_request(b"[[1]]", ROWS, probabilities=True).probabilities
    assert not parse_request(b"[[1]]", ROWS).probabilities
    with pytest.raises(RequestError, match="no probabilities"):
        parse_request(b"[[1]]", ANYTHING, probabilities=True)
    assert [wants_probabilities(query) for query in (b"", b"predict_proba", b"predict_proba=1&utm=x")] == [0, 1, 1]
    assert not wants_probabilities(b"predict_proba=false")


@pytest.mark.parametrize("query", [b"predict_proba=maybe", b"\xff", b"&".join([b"a=b"] * 99)])
def test_a_strange_query_is_a_bad_request(query: bytes) -> None:
    with pytest.raises(RequestError):
        wants_probabilities(query)


def test_answers_hold_only_what_was_asked_for() -> None:
    import numpy

    assert encode_answer(Prediction([1, "a"])) == b'{"predictions":[1,"a"]}'
    prediction = Prediction([numpy.float64(0.5), numpy.array([1])], [[1.0]], ["x"])
    assert encode_answer(prediction) == b'{"predictions":[0.5,[1]],"probabilities":[[1.0]],"classes":["x"]}'
    assert encode_answer(Prediction([float("nan")])) == b'{"predictions":[null]}'
    with pytest.raises(TypeError):
        encode_answer(Prediction([object()]))
