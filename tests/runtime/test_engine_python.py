"""A user's Python file in all its forms: batches or one at a time, async, generators, parameters, its own kind."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from engine_checks import load, plain

from lightship_runtime.engines import Engine, Options
from lightship_runtime.errors import StartError


def engine_of(tmp_path: Path, code: str) -> Engine:
    path = tmp_path / "served_file.py"
    path.write_text(code)
    return load(path, "python", "python")


@pytest.mark.parametrize(
    "code",
    [
        "def load(): return 2\ndef predict(model, instance): return model * instance",
        "def predict(instance): return 2 * instance",
        "async def predict(instances): return [2 * x for x in instances]",
        "async def predict(instance): return 2 * instance",
        "async def load(): return 2\nasync def predict(model, instance): return model * instance",
        "async def load(): return 2\ndef predict(model, instances): return [model * x for x in instances]",
        "def load(): return 2\ndef predict(model, instances, parameters): return [model * x for x in instances]",
    ],
)
def test_forms_of_predict(tmp_path: Path, code: str) -> None:
    engine = engine_of(tmp_path, code)
    assert plain(engine.predict([1, 2], Options()).predictions) == [2, 4]
    assert not engine.streams


def test_async_instances_run_at_once(tmp_path: Path) -> None:
    code = """
import asyncio
async def load(): return asyncio.Barrier(3) if hasattr(asyncio, "Barrier") else None
async def predict(model, instance):
    if model: await asyncio.wait_for(model.wait(), 20)
    return instance
"""
    if not hasattr(asyncio, "Barrier"):
        pytest.skip("asyncio.Barrier is of Python 3.11")
    assert engine_of(tmp_path, code).predict([1, 2, 3], Options()).predictions == [1, 2, 3]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_generator_streams_and_can_be_stopped(tmp_path: Path, is_async: bool) -> None:
    word = "async " if is_async else ""
    code = f"""
ended = []
{word}def predict(instance):
    try:
        for word in instance.split(): yield word + " "
    finally: ended.append(instance)
"""
    engine = engine_of(tmp_path, code)
    assert engine.streams
    assert list(engine.stream("a b", Options())) == ["a ", "b "]
    assert engine.predict(["a b", "c"], Options()).predictions == ["a b ", "c "]
    parts = engine.stream("x y z", Options())
    assert next(parts) == "x "
    parts.close()  # type: ignore[attr-defined]
    import served_file  # type: ignore[import-not-found]

    assert served_file.ended[-1] == "x y z"


def test_parts_that_are_no_texts_are_listed(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, "def predict(instance):\n  for x in range(instance): yield x")
    assert engine.predict([2, 0], Options()).predictions == [[0, 1], []]


def test_parameters_and_what_the_file_says_of_itself(tmp_path: Path) -> None:
    code = """
kind = "text"
example = "hello"
def predict(instance, parameters): return instance * parameters.get("times", 1)
"""
    engine = engine_of(tmp_path, code)
    assert (engine.signature.kind, engine.signature.example) == ("text", "hello")
    assert engine.predict(["a"], Options(parameters={"times": 3})).predictions == ["aaa"]


def test_errors_of_async_functions_arrive(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, "async def predict(instance):\n  raise ValueError('no')")
    with pytest.raises(ValueError, match="no"):
        engine.predict([1], Options())


@pytest.mark.parametrize("value", ["3", "None", "'text'", "{1: 2}"])
def test_what_is_no_list_is_a_failure_of_the_model(tmp_path: Path, value: str) -> None:
    engine = engine_of(tmp_path, f"def predict(instances): return {value}")
    with pytest.raises(RuntimeError, match="not a list"):
        engine.predict([1], Options())


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="not a Python file"):
        load(tmp_path / "missing.py", "python", "python")


def test_dataframes_and_series_are_answers(tmp_path: Path) -> None:
    code = "import pandas\ndef predict(instances): return pandas.Series(instances) * 2"
    found: Any = engine_of(tmp_path, code).predict([1, 2], Options()).predictions
    assert plain(found) == [2, 4]
