"""Calls of tools in what a model writes: taken out where they are exactly that, left in the text where not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightship_runtime.engines.engine import Engine, ModelSource
from lightship_runtime.generation.calling import Calling, Tools
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forcing import Forced
from lightship_runtime.generation.request import (
    Arguments,
    Finish,
    FinishReason,
    GenerationRequest,
    Piece,
    TokenLogprob,
    ToolCall,
)
from lightship_runtime.host.answering import Answering
from lightship_runtime.log import Log
from lightship_runtime.payload import Call, RequestError
from lightship_runtime.payload.call import Outcome

TIDE = '{"name": "tide", "arguments": {"day": 3}}'
LLAMA = '{"name": "tide", "parameters": {"day": 3}}'
HERMES = f"<tool_call>\n{TIDE}\n</tool_call>"
DAY = ToolCall("tide", '{"day": 3}')
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("tide", "wind")]


def read(texts: list[str], tools: tuple[str, ...] = ("tide", "wind")) -> tuple[str, list[ToolCall]]:
    """The text and the calls of what is written in pieces."""
    calling = Calling(Tools(frozenset(tools)))
    found = [one for text in texts for one in calling.feed(Piece(text))] + calling.rest()
    calls = [one for one in found if isinstance(one, ToolCall)]
    assert calling.made == len(calls)
    return "".join(one.text for one in found if isinstance(one, Piece)), calls


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        (HERMES, "", [DAY]),
        (f"Let me see.\n\n{HERMES}\n{HERMES}\n", "Let me see.", [DAY, DAY]),
        (f"{HERMES} That is all.", " That is all.", [DAY]),
        (f"<tool_call>{LLAMA}</tool_call>", "", [DAY]),
        (LLAMA, "", [DAY]),
        (f"  {TIDE}\n", "", [DAY]),
        (f"<|python_tag|>{LLAMA}; {LLAMA}", "", [DAY, DAY]),
        ('{"type": "function", "name": "wind", "parameters": {}}', "", [ToolCall("wind", "{}")]),
        ('{"name": "wind", "parameters": {"at": "a;b } "}}', "", [ToolCall("wind", '{"at": "a;b } "}')]),
        ('{"name": "wind", "arguments": {"n": 123456789012345678901}}', "", [
            ToolCall("wind", '{"n": 123456789012345678901}')
        ]),
    ],
)  # fmt: skip
def test_calls_are_taken_out(written: str, text: str, calls: list[ToolCall]) -> None:
    assert read([written]) == (text, calls)
    assert read(list(written)) == (text, calls)


@pytest.mark.parametrize(
    "written",
    [
        "The tide is high.",
        "",
        " \n",
        '<tool_call>{"name": "anchor", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "tide", "arguments": "{}"}</tool_call>',
        '<tool_call>{"name": "tide", "arguments": {}, "parameters": {}}</tool_call>',
        '<tool_call>{"name": "tide"}</tool_call>',
        '<tool_call>{"name": "tide", "arguments": {}} and more</tool_call>',
        '<tool_call>{"name": "tide", "arguments": {}, "more": 1}</tool_call>',
        f"<tool_call>{TIDE}",
        f"<tool_call>[{TIDE}]</tool_call>",
        f"Call {LLAMA}",
        f"{LLAMA} is what I would ask.",
        f"{LLAMA}; nothing",
        '{"name": "Ann", "age": 3}',
        '{"answer": 42}',
        "a < b <tool <tool_call <|python_tag|>",
        "<tool_call></tool_call>",
        "<tool_call>" + "[" * 100_000,
        '{"name":' + "[" * 100_000,
    ],
)
def test_anything_else_is_text_as_it_stands(written: str) -> None:
    assert read([written]) == (written, [])
    assert read([written[start : start + 7] for start in range(0, min(len(written), 3000), 7)]) == (
        written[: 7 * 429] if len(written) > 3000 else written,
        [],
    )


def test_without_tools_nothing_is_looked_for() -> None:
    calling = Calling(Tools())
    for text in ("<tool_call>", TIDE, "</tool_call>"):
        assert calling.feed(Piece(text)) == [Piece(text)]
    assert calling.rest() == []


def test_text_waits_only_while_it_may_be_a_call() -> None:
    calling = Calling(Tools(frozenset(["tide"])))
    sent = [
        [one.text for one in calling.feed(Piece(text)) if isinstance(one, Piece)] for text in ("Hi", " a", " <", "b")
    ]
    assert sent == [["Hi"], [" a"], [], [" <b"]]
    other = Calling(Tools(frozenset(["tide"])))
    assert [one.text for one in other.feed(Piece('{"answer": ')) if isinstance(one, Piece)] == ['{"answer":']


MARKS = st.sampled_from([
    *("<tool_call>", "</tool_call>", "<|python_tag|>", TIDE, LLAMA, HERMES, ";", " ", "\n", "{", "}", "<"),
    *("tool", "x"), '{"name":', '"arguments": {}',
])  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(MARKS, max_size=8), st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_how_a_text_is_cut_into_pieces_does_not_matter(marks: list[str], sizes: list[int]) -> None:
    written = "".join(marks)
    cut, place = [], 0
    for size in sizes:
        cut.append(written[place : place + size])
        place += size
    text, calls = read([*cut, written[place:]])
    assert (text, calls) == read([written])
    if not calls:
        assert text == written


class Saying(GenerationEngine):
    """Writes the last message, a letter a token, whatever it is."""

    context = 4000
    chats = tools = True
    most_logprobs = 0
    response_formats = frozenset(("json_schema",))

    def __init__(self, reason: FinishReason = "stop") -> None:
        self._reason = reason
        self.asked: list[GenerationRequest] = []

    @classmethod
    def load(cls, source: ModelSource) -> Engine:
        raise NotImplementedError

    def prompt_tokens(self, request: GenerationRequest) -> int:
        return 3

    def generate(self, request: GenerationRequest) -> Iterator[Piece | Finish]:
        assert request.messages is not None
        self.asked.append(request)
        text = request.messages[-1]["content"]
        for letter in text:
            logprobs = (TokenLogprob(letter, -1.0),) if request.logprobs is not None else None
            yield Piece(letter, 1, logprobs)
        yield Finish(self._reason, 3, len(text))


def ask(text: str, reason: FinishReason = "stop", **body: Any) -> Any:
    answering = Answering(Saying(reason), "sayer", "python", Log(io.StringIO()))
    body = {"messages": [{"role": "user", "content": text}], "tools": TOOLS, **body}
    call = Call("chat", json.dumps(body).encode())
    if body.get("stream"):
        return [json.loads(part) for part in answering.stream(call) if part]
    answer = answering.answer(call)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["choices"][0]


def test_a_whole_answer_has_the_calls_beside_its_text() -> None:
    choice = ask(f"One moment. {HERMES}{HERMES}")
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "One moment."
    calls = choice["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [{"name": "tide", "arguments": '{"day": 3}'}] * 2
    assert len({call["id"] for call in calls}) == 2
    assert ask(LLAMA)["message"]["content"] is None
    assert ask(HERMES, "length")["finish_reason"] == "length"


def test_an_answer_without_calls_is_as_it_was() -> None:
    choice = ask("Low tide.")
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Low tide.", "stop")
    assert "tool_calls" not in choice["message"]
    for without in ({"tools": None}, {"tool_choice": "none"}):
        choice = ask(HERMES, **without)
        assert (choice["message"]["content"], choice["finish_reason"]) == (HERMES, "stop")


def test_parts_have_each_call_whole() -> None:
    parts = ask(f"One moment. {HERMES}\n{HERMES}", stream=True)
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas) == "One moment."
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert [call["index"] for call in calls] == [0, 1]
    assert calls[0]["function"] == {"name": "tide", "arguments": '{"day": 3}'}
    assert len({call["id"] for call in calls}) == 2
    assert parts[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_probabilities_of_text_are_kept_and_those_of_calls_are_not() -> None:
    choice = ask("Low < high", logprobs=True)
    assert "".join(one["token"] for one in choice["logprobs"]["content"]) == "Low < high"
    choice = ask(f"Low {HERMES}", logprobs=True)
    assert "".join(one["token"] for one in choice["logprobs"]["content"]) == "Low"


def test_a_stop_text_within_a_call_leaves_text() -> None:
    choice = ask(HERMES, stop=["day"])
    assert choice["message"]["content"] == HERMES.partition("day")[0]
    assert choice["finish_reason"] == "stop"


# tools that have to be called, and others that must not


def forced(texts: list[str]) -> tuple[str, str | None, str]:
    """The text, the name and the arguments of what is written in pieces."""
    reading = Forced()
    found = []
    for text in texts:
        found += reading.feed(Piece(text))
    found += reading.rest()
    calls = [one.name for one in found if isinstance(one, ToolCall)]
    assert len(calls) == reading.made <= 1
    text = "".join(one.text for one in found if isinstance(one, Piece))
    return text, calls[0] if calls else None, "".join(one.text for one in found if isinstance(one, Arguments))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (TIDE, ("", "tide", '{"day": 3}')),
        ('\n{"name":"tide","arguments":{"day":[1,{"a":"}"}]}}', ("", "tide", '{"day":[1,{"a":"}"}]}')),
        (
            '{ "name" : "now", "arguments" : \n {"a": "\\"}", "b": "\\\\"} }',
            ("", "now", '{"a": "\\"}", "b": "\\\\"}'),
        ),
        ('{"name": "tide", "arguments": {"day": ', ("", "tide", '{"day": ')),  # no more tokens
        ('{"name": "ti', ('{"name": "ti', None, "")),
        ("", ("", None, "")),
        ('{"name": "tide", "arguments": ', ('{"name": "tide", "arguments": ', None, "")),
    ],
)
def test_the_arguments_of_a_forced_call_go_through(written: str, expected: tuple[str, str | None, str]) -> None:
    assert forced([written]) == expected
    assert forced(list(written)) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text(max_size=4), st.recursive(st.text(max_size=4) | st.integers(), st.lists), max_size=3),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.lists(st.integers(1, 7), min_size=1, max_size=40),
)
def test_forced_calls_can_be_cut_anywhere(arguments: Any, indent: int | None, plain: bool, sizes: list[int]) -> None:
    written = json.dumps({"name": "tide", "arguments": arguments}, indent=indent, ensure_ascii=plain)
    cut, place = [], 0
    for size in sizes:
        cut.append(written[place : place + size])
        place += size
    text, name, found = forced([*cut, written[place:]])
    assert (text, name, json.loads(found)) == ("", "tide", arguments)


NAMED = {"type": "function", "function": {"name": "tide"}}


@pytest.mark.parametrize(("choice", "reason"), [("required", "tool_calls"), (NAMED, "stop")])
def test_a_call_that_has_to_be_is_one(choice: Any, reason: str) -> None:
    made = ask(TIDE, tool_choice=choice)
    assert made["finish_reason"] == reason
    assert made["message"]["content"] is None
    assert made["message"]["tool_calls"][0]["function"] == {"name": "tide", "arguments": '{"day": 3}'}
    cut = ask(TIDE[:-3], tool_choice=choice, reason="length")
    assert (cut["finish_reason"], cut["message"]["tool_calls"][0]["function"]["arguments"]) == ("length", '{"day": ')


def request_of(**body: Any) -> GenerationRequest:
    engine = Saying()
    answering = Answering(engine, "sayer", "python", Log(io.StringIO()))
    asked = {"messages": [{"role": "user", "content": TIDE}], "tools": TOOLS, **body}
    answer = answering.answer(Call("chat", json.dumps(asked).encode()))
    assert answer.status == 200, answer.body
    return engine.asked[0]


def test_the_text_is_kept_to_the_calls_that_may_be() -> None:
    required = request_of(tool_choice="required")
    assert required.response_format == "json_schema"
    assert required.schema is not None
    assert [one["properties"]["name"]["const"] for one in required.schema["anyOf"]] == ["tide", "wind"]
    named = request_of(tool_choice=NAMED, response_format={"type": "text"})
    assert named.schema is not None
    assert named.schema["properties"]["name"] == {"const": "tide"}
    assert [tool["function"]["name"] for tool in named.tools] == ["tide"]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
    free = request_of(tool_choice=allowed)
    assert (free.response_format, [tool["function"]["name"] for tool in free.tools]) == ("text", ["tide"])
    allowed["allowed_tools"]["mode"] = "required"  # type: ignore[index]
    held = request_of(tool_choice=allowed)
    assert held.schema is not None
    assert held.schema["properties"]["name"] == {"const": "tide"}


@pytest.mark.parametrize(
    "body",
    [
        {"tool_choice": {"type": "function", "function": {"name": "anchor"}}},
        {"tool_choice": "required", "tools": []},
        {"tool_choice": NAMED, "tools": None},
        {"tool_choice": "any"},
        {"tool_choice": 3},
        {"tool_choice": {"type": "custom", "custom": {"name": "tide"}}},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
        {"tool_choice": {"type": "function"}},
    ],
)
def test_a_choice_that_cannot_be_is_refused(body: dict[str, Any]) -> None:
    answering = Answering(Saying(), "sayer", "python", Log(io.StringIO()))
    asked = {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, **body}
    with pytest.raises(RequestError) as caught:
        list(answering.stream(Call("chat", json.dumps(asked).encode())))
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "tool_choice", "invalid_value")


def test_calls_can_be_kept_to_one() -> None:
    for written in (f"One. {HERMES}{HERMES}", f"{LLAMA}; {LLAMA}"):
        assert len(ask(written)["message"]["tool_calls"]) == 2
        choice = ask(written, parallel_tool_calls=False)
        assert len(choice["message"]["tool_calls"]) == 1
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] == ("One." if written.startswith("One") else None)


@pytest.mark.parametrize("choice", ["auto", "required", NAMED])
def test_openais_own_client_puts_the_parts_together(choice: Any) -> None:
    chat = pytest.importorskip("openai.types.chat")
    from openai.lib.streaming.chat import ChatCompletionStreamState

    state = ChatCompletionStreamState(input_tools=TOOLS)
    for part in ask(TIDE, tool_choice=choice, stream=True, n=2):
        state.handle_chunk(chat.ChatCompletionChunk.model_validate(part))
    made = state.get_final_completion()
    assert [one.index for one in made.choices] == [0, 1]
    for one in made.choices:
        (call,) = one.message.tool_calls
        assert (call.function.name, call.function.arguments, call.type) == ("tide", '{"day": 3}', "function")
    assert len({one.message.tool_calls[0].id for one in made.choices}) == 2


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["auto", "none", "required", "function", "tide", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "function", "name", "allowed_tools", "mode", "tools", "a"]), inner)
    ),
    max_leaves=8,
)
CHOICES = st.one_of(
    st.sampled_from(["auto", "none", "required", None, NAMED]),
    st.builds(
        lambda mode, tools: {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}},
        st.sampled_from(["auto", "required", "none"]),
        st.lists(st.just(NAMED) | JSON, max_size=2),
    ),
    JSON,
)


@settings(max_examples=400, deadline=None)
@given(
    st.fixed_dictionaries(
        {"tool_choice": CHOICES},
        optional={
            "tools": st.just(TOOLS) | JSON,
            "parallel_tool_calls": JSON,
            "response_format": st.just({"type": "text"}) | JSON,
            "n": st.integers(0, 9),
            "stream": st.booleans(),
        },
    ),
    st.sampled_from([HERMES, LLAMA, TIDE, "Low tide."]),
)
def test_any_choice_of_tools_is_answered_or_refused(body: dict[str, Any], text: str) -> None:
    body = {"messages": [{"role": "user", "content": text}], **body}
    answering = Answering(Saying(), "sayer", "python", Log(io.StringIO()))
    outcome = Outcome()
    try:
        parts = [part for part in answering.stream(Call("chat", json.dumps(body).encode()), outcome) if part]
    except RequestError as error:
        assert error.status == 400, error.message
        assert error.param is not None
        return
    for part in parts or [outcome.answer.body]:
        assert all(0 <= choice["index"] < (body.get("n") or 1) for choice in json.loads(part)["choices"])
