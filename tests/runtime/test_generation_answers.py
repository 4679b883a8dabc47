"""Bodies of any kind, stop texts, log probabilities and formats, with engines in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_checks import load
from hypothesis import given, settings
from hypothesis import strategies as st
from writing_model import write_app

from lightship_runtime.engines.engine import Engine, ModelSource
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece, TokenLogprob
from lightship_runtime.generation.stopping import Stopping
from lightship_runtime.host.answering import Answering
from lightship_runtime.log import Log
from lightship_runtime.payload import Call, RequestError
from lightship_runtime.payload.call import Outcome, Protocol

FORMS: list[Protocol] = ["chat", "completions", "generate"]


class Spelling(GenerationEngine):
    """Writes its prompt letter by letter, each with its probability; notes what it was asked."""

    context = 64
    chats = True
    most_logprobs = 3
    response_formats = frozenset(("json_object", "json_schema"))

    def __init__(self) -> None:
        self.asked: list[GenerationRequest] = []
        self.closed = 0

    @classmethod
    def load(cls, source: ModelSource) -> Engine:
        raise NotImplementedError

    def prompt_tokens(self, request: GenerationRequest) -> int:
        return len(self._text(request))

    def generate(self, request: GenerationRequest) -> Iterator[Piece | Finish]:
        self.asked.append(request)
        text = self._text(request)[: request.max_tokens]
        try:
            for letter in text:
                top = tuple((other, -2.0) for other in "xyz"[: request.logprobs])
                logprobs = (TokenLogprob(letter, -0.5, top),) if request.logprobs is not None else None
                yield Piece(letter, 1, logprobs)
            yield Finish("tool_calls", self.prompt_tokens(request), len(text))
        finally:
            self.closed += 1

    def _text(self, request: GenerationRequest) -> str:
        return request.prompt or "".join(message["content"] for message in request.messages or ())


def answering(engine: Engine) -> Answering:
    return Answering(engine, "speller", "python", Log(io.StringIO()))


def ask(engine: Engine, protocol: Protocol, **body: Any) -> tuple[int, Any]:
    answer = answering(engine).answer(Call(protocol, json.dumps(body).encode()))
    return answer.status, json.loads(answer.body)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_log_probabilities_of_a_completion() -> None:
    status, body = ask(Spelling(), "completions", prompt="abc", logprobs=2)
    assert status == 200
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["a", "b", "c"],
        "token_logprobs": [-0.5] * 3,
        "top_logprobs": [{"x": -2.0, "y": -2.0}] * 3,
        "text_offset": [0, 1, 2],
    }
    assert ask(Spelling(), "completions", prompt="abc", logprobs=4)[0] == 400
    assert ask(Spelling(), "completions", prompt="abc")[1]["choices"][0]["logprobs"] is None


def test_log_probabilities_of_a_chat() -> None:
    status, body = ask(Spelling(), "chat", messages=user("é"), logprobs=True, top_logprobs=1)
    assert status == 200
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert body["choices"][0]["logprobs"]["content"] == [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [{"token": "x", "logprob": -2.0, "bytes": [120]}],
        }
    ]
    call = Call("chat", json.dumps({"messages": user("ab"), "logprobs": True, "stream": True}).encode())
    parts = [json.loads(part) for part in answering(Spelling()).stream(call) if part]
    found = [part["choices"][0]["logprobs"] for part in parts]
    assert [one["content"][0]["token"] if one else None for one in found] == [None, "a", "b", None]


def test_formats_reach_an_engine_that_keeps_to_them() -> None:
    engine = Spelling()
    schema = {"type": "object"}
    assert ask(engine, "chat", messages=user("x"), response_format={"type": "json_object"})[0] == 200
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, "strict": True}}
    assert ask(engine, "chat", messages=user("x"), response_format=form)[0] == 200
    assert [one.response_format for one in engine.asked] == ["json_object", "json_schema"]
    assert engine.asked[1].schema == schema
    status, body = ask(engine, "chat", messages=user("x"), response_format={"type": "json_schema"})
    assert status == 400
    assert body["error"]["param"] == "response_format.json_schema.schema"


def test_an_iterator_that_is_closed_frees_the_engine_and_is_counted() -> None:
    engine = Spelling()
    outcome = Outcome()
    call = Call("completions", b'{"prompt": "abcdef", "stream": true}')
    parts = answering(engine).stream(call, outcome)
    next(parts), next(parts)
    parts.close()  # type: ignore[attr-defined]  # a generator
    assert engine.closed == 1
    assert outcome.generated is not None
    assert (outcome.generated.prompt_tokens, outcome.generated.completion_tokens) == (6, 2)


def test_a_whole_answer_can_be_ended_between_any_two_tokens() -> None:
    engine = Spelling()
    parts = answering(engine).stream(Call("completions", b'{"prompt": "abcdef"}'))
    assert [next(parts), next(parts)] == [b"", b""]
    parts.close()  # type: ignore[attr-defined]  # a generator
    assert engine.closed == 1


def test_a_member_that_is_ignored_never_reaches_the_engine() -> None:
    engine = Spelling()
    assert ask(engine, "chat", messages=user("x"), user="me", metadata={"a": "b"}, seed=3, temperature=0)[0] == 200
    assert engine.asked[0] == GenerationRequest(
        messages=({"role": "user", "content": "x"},), seed=3, temperature=0, max_tokens=63
    )


def test_calls_of_tools_reach_the_template_with_their_arguments_as_objects() -> None:
    engine = Spelling()
    called = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    messages = [
        *user("x"),
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    assert ask(engine, "chat", messages=messages)[0] == 200
    assert engine.asked[0].messages is not None
    assert engine.asked[0].messages[1]["tool_calls"][0]["function"]["arguments"] == {"zone": "UTC"}


# stop texts


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab", max_size=3), max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_texts_end_a_text_as_if_it_were_whole(texts: list[str], stop: list[str]) -> None:
    whole = "".join(texts)
    stopping = Stopping(tuple(stop))
    sent = ""
    for text in texts:
        sent += "".join(piece.text for piece in stopping.feed(Piece(text)))
        assert not any(one in sent for one in stop)
        if stopping.stopped:
            break
    else:
        sent += "".join(piece.text for piece in stopping.rest())
    assert stopping.stopped == any(one in whole for one in stop)
    ends = [place for one in stop if (place := whole.find(one)) >= 0]
    assert whole.startswith(sent)
    if ends:  # it is seen at the first piece that completes one, in which another may begin before it
        assert len(sent) >= min(ends)
        assert not any(one in sent for one in stop)
    else:
        assert sent == whole


# bodies of any kind

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    *("prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "stop"),
    *("stream", "stream_options", "n", "logprobs", "top_logprobs", "tools", "tool_choice", "response_format"),
    *("model", "echo", "suffix", "best_of", "logit_bias", "user", "metadata", "functions", "audio", "input"),
    *("encoding_format", "dimensions", "repetition_penalty", "presence_penalty", "modalities"),
]
SENSIBLE = st.one_of(
    st.just(user("hello there")),
    st.just("hello there"),
    st.integers(0, 20),
    st.floats(0, 2),
    st.booleans(),
    st.none(),
    st.lists(st.text(max_size=4), max_size=3),
    st.just([{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "{"}}]}]),
)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Answering:
    app = write_app(tmp_path_factory.mktemp("writer"))
    return answering(load(app / "writer.py", "python", "python"))


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([*FORMS, "embeddings"]),
    st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), SENSIBLE | JSON, max_size=6),
    st.booleans(),
)
def test_any_json_is_answered_or_refused(
    writer: Answering, protocol: Protocol, body: dict[str, Any], prompted: bool
) -> None:
    if prompted:
        body = {"prompt": "a b", "messages": user("a b"), **body}
        body.pop("messages" if protocol == "completions" else "prompt")
    _check(writer, Call(protocol, json.dumps(body).encode()), body.get("stream") is True)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMS), st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()), st.text())
def test_any_bytes_are_answered_or_refused(writer: Answering, protocol: Protocol, body: bytes, query: str) -> None:
    _check(writer, Call(protocol, body, query=query))


def _check(writer: Answering, call: Call, streamed: bool = False) -> None:
    outcome = Outcome()
    try:
        parts = [part for part in writer.stream(call, outcome) if part] if call.protocol in FORMS else []
    except RequestError as error:
        assert 400 <= error.status < 500, error.message
        assert error.message
        return
    if call.protocol in FORMS:
        assert outcome.generated is not None
        assert bool(parts) == streamed
        for part in parts or [outcome.answer.body]:
            assert msgspec.json.decode(part)
    answer = writer.answer(call)
    assert answer.status < 500
    if answer.body:
        assert msgspec.json.decode(answer.body)


@pytest.mark.parametrize("source", ["def generate(prompt): return ''", "generate = 3", "def load(): pass"])
def test_a_file_that_cannot_write_is_refused_when_it_is_loaded(tmp_path: Path, source: str) -> None:
    from lightship_runtime.errors import StartError

    with pytest.raises(StartError):
        load(write_app(tmp_path, source) / "writer.py", "python", "python")
