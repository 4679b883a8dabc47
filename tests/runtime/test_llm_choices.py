"""Several texts, and calls that have to be, with real engines: OpenAI's API down to the tokens of a tiny model."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from engine_checks import load
from hypothesis import given, settings
from hypothesis import strategies as st
from known_schemas import SCHEMAS

from lightship_runtime.host.answering import Answering
from lightship_runtime.log import Log
from lightship_runtime.payload import Call, RequestError
from lightship_runtime.payload.call import Outcome, Protocol

pytest.importorskip("transformers")
pytest.importorskip("torch")
pytest.importorskip("jinja2")
import tiny_language as tiny

GENAI, REFERENCE, LLAMA = "onnxruntime-genai", "transformers-generation", "llamacpp"
TIDE = {
    "type": "object",
    "properties": {"day": {"type": "integer", "minimum": 1, "maximum": 31}, "at": {"enum": ["noon", "night"]}},
    "required": ["day", "at"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "tide", "parameters": TIDE}},
    {"type": "function", "function": {"name": "now"}},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.language_model(tmp_path_factory.mktemp("models") / "tiny")


def opened(folder: Path, name: str) -> Any:
    if name == GENAI:
        pytest.importorskip("onnxruntime_genai")
        return load(tiny.converted(folder, folder.with_name("onnx")), "onnx-genai", GENAI, threads=2)
    if name == LLAMA:
        pytest.importorskip("xllamacpp")
        pytest.importorskip("gguf")
        return load(tiny.gguf(folder, folder.with_name("tiny.gguf")), "gguf", LLAMA, threads=2)
    return load(folder, "huggingface", REFERENCE, threads=2)


@pytest.fixture(scope="module", params=[GENAI, REFERENCE, LLAMA])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Any]:
    with closing(opened(folder, request.param)) as made:
        yield made


@pytest.fixture(scope="module", params=[GENAI, LLAMA])
def guided(request: pytest.FixtureRequest, folder: Path) -> Iterator[Any]:
    """Engines that keep to schemas; the tiny template has no place for tools, which does not matter here."""
    with closing(opened(folder, request.param)) as made:
        made.tools = True
        yield made


def ask(engine: Any, protocol: Protocol = "chat", places: int = 4, **body: Any) -> Any:
    """The answer, or its parts; a RequestError is raised."""
    if protocol == "chat":
        body.setdefault("messages", [{"role": "user", "content": "the sea"}])
    answering = Answering(engine, "tiny", "python", Log(io.StringIO()))
    outcome = Outcome()
    outcome.places.grant(places - 1)
    if "n" in body:
        outcome.places = _Given(places)  # type: ignore[assignment]
    parts = [
        json.loads(part) for part in answering.stream(Call(protocol, json.dumps(body).encode()), outcome) if part
    ]
    return parts if body.get("stream") else json.loads(outcome.answer.body)


class _Given:
    """Places that nobody takes back."""

    def __init__(self, granted: int) -> None:
        self.granted = granted

    def want(self, texts: int, wake: Any) -> None:
        pass

    def ended(self) -> None:
        pass


def test_choices_with_a_seed_differ_and_come_again(engine: Any) -> None:
    asked = {"prompt": "Once", "n": 4, "seed": 7, "max_tokens": 16, "temperature": 1.0}
    first = ask(engine, "completions", **asked)
    texts = [choice["text"] for choice in first["choices"]]
    assert len(set(texts)) > 2
    assert [choice["text"] for choice in ask(engine, "completions", places=1, **asked)["choices"]] == texts
    alone = ask(engine, "completions", **{**asked, "n": 1, "seed": 9})
    assert alone["choices"][0]["text"] == texts[2]
    assert first["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]
    assert first["usage"]["completion_tokens"] <= 64


def test_choices_without_a_seed_differ(engine: Any) -> None:
    made = ask(engine, "completions", prompt="Once", n=4, max_tokens=16, temperature=1.5)
    assert len({choice["text"] for choice in made["choices"]}) > 1


def test_choices_have_their_own_probabilities(engine: Any) -> None:
    made = ask(engine, n=3, seed=1, max_tokens=5, temperature=1.0, logprobs=True, top_logprobs=2)
    for choice in made["choices"]:
        found = choice["logprobs"]["content"]
        assert 1 <= len(found) <= 5
        assert all(one["logprob"] <= 0 and len(one["top_logprobs"]) == 2 for one in found)
    parts = ask(engine, n=3, seed=1, max_tokens=5, temperature=1.0, logprobs=True, stream=True)
    for index in range(3):
        own = [part["choices"][0] for part in parts if part["choices"][0]["index"] == index]
        tokens = [one["token"] for part in own if part["logprobs"] for one in part["logprobs"]["content"]]
        assert tokens == [one["token"] for one in made["choices"][index]["logprobs"]["content"]]


def test_leaving_frees_all_choices(engine: Any) -> None:
    before = threading.active_count()
    for _ in range(8):
        answering = Answering(engine, "tiny", "python", Log(io.StringIO()))
        outcome = Outcome(_Given(4))  # type: ignore[arg-type]
        body = {"prompt": "A", "n": 6, "max_tokens": 400, "temperature": 1.0, "stream": True}
        parts = answering.stream(Call("completions", json.dumps(body).encode()), outcome)
        for _ in range(5):
            next(parts)
        parts.close()  # type: ignore[attr-defined]  # a generator
    for _ in range(3000):
        if not engine.writing and threading.active_count() <= before:
            break
        threading.Event().wait(0.01)
    assert not engine.writing
    assert threading.active_count() <= before


# calls that have to be


def test_a_call_that_is_required_is_held_to_its_schema(guided: Any) -> None:
    for seed in range(4):
        made = ask(guided, tools=TOOLS, tool_choice="required", temperature=1.0, seed=seed, max_tokens=120)
        (choice,) = made["choices"]
        assert choice["finish_reason"] in ("tool_calls", "length")
        if choice["finish_reason"] == "tool_calls":
            (call,) = choice["message"]["tool_calls"]
            assert choice["message"]["content"] is None
            arguments = json.loads(call["function"]["arguments"])
            jsonschema.validate(arguments, TIDE if call["function"]["name"] == "tide" else {"maxProperties": 0})


def test_a_function_that_is_named_is_called(guided: Any) -> None:
    choice = {"type": "function", "function": {"name": "tide"}}
    made = ask(guided, tools=TOOLS, tool_choice=choice, temperature=1.0, seed=3, max_tokens=120, n=3)
    for one in made["choices"]:
        assert one["finish_reason"] == "stop"  # as OpenAI says it where a function is named
        (call,) = one["message"]["tool_calls"]
        assert call["function"]["name"] == "tide"
        jsonschema.validate(json.loads(call["function"]["arguments"]), TIDE)
    ids = [one["message"]["tool_calls"][0]["id"] for one in made["choices"]]
    assert len(set(ids)) == 3


def test_arguments_come_in_pieces(guided: Any) -> None:
    asked = {"tools": TOOLS, "temperature": 1.0, "seed": 3, "max_tokens": 120}
    asked["tool_choice"] = {"type": "function", "function": {"name": "tide"}}
    whole = ask(guided, **asked)["choices"][0]["message"]["tool_calls"][0]["function"]
    parts = [part["choices"][0] for part in ask(guided, stream=True, **asked)]
    deltas = [part["delta"]["tool_calls"][0] for part in parts if "tool_calls" in part["delta"]]
    assert parts[0]["delta"]["role"] == "assistant"
    assert set(deltas[0]) == {"index", "id", "type", "function"}
    assert deltas[0]["function"] == {"name": "tide", "arguments": ""}
    assert len(deltas) > 3
    assert all(set(one) == {"index", "function"} and set(one["function"]) == {"arguments"} for one in deltas[1:])
    assert {one["index"] for one in deltas} == {0}
    assert "".join(one["function"]["arguments"] for one in deltas) == whole["arguments"]
    assert parts[-1]["finish_reason"] == "stop"


def test_schemas_are_kept_to_or_refused(guided: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "tide", "schema": TIDE, "strict": True}}
    made = ask(guided, response_format=form, temperature=1.0, seed=1, max_tokens=120)["choices"][0]
    assert made["finish_reason"] == "stop"
    jsonschema.validate(json.loads(made["message"]["content"]), TIDE)
    for schema in ({"type": "string", "pattern": "(("}, {"$ref": "#/x"}, {"type": "wizard"}):
        form["json_schema"]["schema"] = schema
        with pytest.raises(RequestError) as caught:
            ask(guided, response_format=form, max_tokens=9)
        assert (caught.value.status, caught.value.param) == (400, "response_format")


def test_parameters_that_cannot_be_kept_to_are_the_tools(guided: Any) -> None:
    tool = {"type": "function", "function": {"name": "tide", "parameters": {"type": "wizard"}}}
    with pytest.raises(RequestError) as caught:
        ask(guided, tools=[tool], tool_choice="required", max_tokens=9)
    assert (caught.value.status, caught.value.param) == (400, "tools")


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE = {
    "deep": deep(300),
    "many": {"enum": [f"{number}" for number in range(9000)]},
    "doubled": {
        "$defs": {
            **{
                f"d{n}": {"anyOf": [{"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}}] * 2} for n in range(40)
            },
            "d40": {"type": "null"},
        },
        "$ref": "#/$defs/d0",
    },
    "itself": {"$ref": "#"},
    "round": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "long": {"type": "string", "minLength": 10**9, "maxLength": 10**10},
    "wide": {"type": "object", "properties": {f"p{number}": {} for number in range(4000)}},
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_schemas_end_soon_and_leave_the_engine_well(guided: Any, name: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": HOSTILE[name]}}
    try:
        ask(guided, response_format=form, max_tokens=4)
    except RequestError as error:
        assert error.status == 400, error.message
    assert ask(guided, max_tokens=2)["usage"]["completion_tokens"] <= 2


# what one engine has


@pytest.fixture(scope="module")
def llama(folder: Path) -> Iterator[Any]:
    with closing(opened(folder, LLAMA)) as made:
        yield made


@settings(max_examples=30, deadline=None)
@given(SCHEMAS, st.integers(0, 1000))
def test_llama_cpp_reads_every_grammar_and_keeps_to_it(llama: Any, schema: dict[str, Any], seed: int) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    made = ask(llama, response_format=form, temperature=1.0, seed=seed, max_tokens=60)["choices"][0]
    content = made["message"]["content"]
    # This model knows no language: bytes that are no characters count as one in the grammar, and come as several.
    if made["finish_reason"] == "stop" and "\ufffd" not in content:
        jsonschema.validate(json.loads(content), schema)


def test_penalties_change_a_text_that_repeats_itself(llama: Any) -> None:
    asked = {"prompt": "the sea the sea the sea", "max_tokens": 60, "temperature": 0}
    text = ask(llama, "completions", **asked)["choices"][0]["text"]
    for penalty in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        assert ask(llama, "completions", **asked, **penalty)["choices"][0]["text"] != text
    assert ask(llama, "completions", **asked, presence_penalty=0.0)["choices"][0]["text"] == text


def test_biases_make_tokens_certain_or_impossible(llama: Any) -> None:
    asked = {"prompt": "Once", "max_tokens": 4, "temperature": 0, "logprobs": 1}
    (one,), (other,) = llama._tokenized("x", bare=True), llama._tokenized("y", bare=True)
    for biases, text in (({one: 100, other: 90}, "xxxx"), ({one: -100, other: 90, 99_999_999: 100}, "yyyy")):
        made = ask(llama, "completions", **asked, logit_bias=biases)["choices"][0]
        assert made["text"] == text
    for wrong in ({"x": 1}, {"-1": 1}, {"1": 101}, {"1": "a"}, {"²": 1}, {str(1 << 40): 1}):
        with pytest.raises(RequestError) as caught:
            ask(llama, "completions", **asked, logit_bias=wrong)
        assert caught.value.param is not None
        assert caught.value.param.startswith("logit_bias")
