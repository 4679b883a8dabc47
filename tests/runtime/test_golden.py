"""The golden answer: what counts as equal, and how a difference is told."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship_runtime.golden import Golden, GoldenError, compare, load_golden

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_every_value_equals_itself(value: object) -> None:
    assert compare(value, value) == []
    assert compare(value, value, 0.0) == []


@given(JSON, JSON)
def test_comparing_never_fails_and_is_bounded(expected: object, got: object) -> None:
    assert len(compare(expected, got)) <= 20


def test_floats_may_differ_by_the_relative_tolerance() -> None:
    assert compare([1000.0], [1000.0005], 1e-6) == []
    assert compare([1000.0], [1000.01], 1e-6) == ["$[0]: expected 1000.0, got 1000.01"]
    assert compare(1, 1.0000000001) == []
    assert compare(0.0, 1e-20) == []


def test_small_numbers_of_a_vector_may_differ_by_the_tolerance_of_its_usual_size() -> None:
    vector = [0.05, -0.05] * 32
    assert compare(vector, [*vector[:-1], -0.05000004], 1e-6) == []
    assert compare([*vector, 1e-9], [*vector, 4e-8], 1e-6) == []
    assert compare([*vector, 1e-9], [*vector, 1e-7], 1e-6) == ["$[64]: expected 1e-9, got 1e-7"]
    assert compare([*vector[:8], 1e-9], [*vector[:8], 4e-8], 1e-6) == ["$[8]: expected 1e-9, got 4e-8"]
    assert compare([*vector, 1e-9], [*vector, 4e-8], 0.0) == ["$[64]: expected 1e-9, got 4e-8"]


def test_whole_numbers_strings_booleans_and_null_are_exact() -> None:
    assert compare(1_000_000_000, 1_000_000_001) == ["$: expected 1000000000, got 1000000001"]
    assert compare("a", "b") == ['$: expected "a", got "b"']
    assert compare(True, 1) == ["$: expected true, got 1"]
    assert compare(None, 0) == ["$: expected null, got 0"]


def test_a_difference_names_its_place() -> None:
    assert compare({"a": {"b c": [1, 2]}}, {"a": {"b c": [1, 3]}}) == ['$.a["b c"][1]: expected 2, got 3']
    assert compare({"predictions": [1]}, {}) == ["$.predictions: expected [1], got nothing"]
    assert compare([1, 2], [1]) == ["$: expected 2 elements, got 1"]
    assert compare([1], {"a": 1}) == ['$: expected [1], got {"a":1}']


def test_members_that_the_golden_answer_does_not_name_are_no_difference() -> None:
    assert compare({"prediction": [2]}, {"prediction": [2], "milliseconds": 3.1}) == []


def test_long_values_are_shortened() -> None:
    (difference,) = compare("a" * 1000, "b" * 1000)
    assert len(difference) < 250


def test_a_golden_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    path.write_text('{"request": [1, 2], "response": {"predictions": ["a"]}, "tolerance": 0.01}')
    golden = load_golden(path)
    assert (golden.body, golden.path, golden.tolerance) == (b"[1,2]", "/predict", 0.01)
    assert golden.differences({"predictions": ["a"]}) == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"request": [1]}', "response"),
        ('{"request": [1], "response": 1, "tolerence": 1}', "tolerence"),
        ('{"request": [1], "response": 1, "path": "predict"}', "path"),
        ('{"request": [1], "response": 1, "tolerance": -1}', "tolerance"),
        ("[1", "golden.json"),
        ("[" * 100_000, "golden.json"),
    ],
)
def test_a_faulty_golden_file_is_named_with_its_fault(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / "golden.json"
    path.write_text(content)
    with pytest.raises(GoldenError, match=fault):
        load_golden(path)


FORM = Golden(
    request={"prompt": "Once"},
    response={"text": "", "usage": {"tokens": 0}, "choices": [{"index": 0}], "end": None},
    path="/generate",
    compare="form",
)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({}, None),
        ({"text": "another", "more": 1}, None),
        ({"usage": {"tokens": 7.5}}, None),
        ({"choices": []}, None),
        ({"choices": [{"index": 3}, {"index": 4}]}, None),
        ({"text": None}, "$.text: expected a text"),
        ({"usage": {}}, "$.usage.tokens: expected a number, got nothing"),
        ({"usage": {"tokens": True}}, "$.usage.tokens"),
        ({"choices": [{"index": 3}, {"index": "4"}]}, "$.choices[1].index"),
        ({"choices": {}}, "$.choices: expected an array"),
        ({"end": "stop"}, "$.end: expected null"),
    ],
)
def test_a_form_takes_other_texts_and_numbers(change: dict[str, Any], where: str | None) -> None:
    differences = FORM.differences({**FORM.response, **change})
    assert len(differences) == (where is not None)
    assert where is None or differences[0].startswith(where)


def test_a_missing_golden_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match=r"nothing\.json"):
        load_golden(tmp_path / "nothing.json")
