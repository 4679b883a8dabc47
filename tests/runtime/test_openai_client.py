"""OpenAI's own client against a whole server: texts, parts, embeddings, errors, and clients that leave."""

from __future__ import annotations

import http.client
import json
import math
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from runtime_servers import Runtime, family
from writing_model import config, write_app

openai = pytest.importorskip("openai")

VECTORS = """
kind = "text"
dimensions = 3
example = "a text"
def load(): return None
def predict(model, instances):
    return [[len(text), text.count("a"), 0.1] for text in instances]
"""
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


def client_of(server: Runtime, **more: Any) -> Any:
    return openai.OpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", **{"api_key": "none-needed", "max_retries": 0, **more}
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    app = write_app(tmp_path_factory.mktemp("writer"))
    with closing(Runtime(app, config(), {})) as runtime:
        yield runtime.ready()


@pytest.fixture
def client(server: Runtime) -> Any:
    return client_of(server)


# what is there


def test_the_model_is_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["writer"]
    assert client.models.retrieve("writer").owned_by == "lightship"
    assert client.models.retrieve("writer").max_model_len == 2000
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


# texts


def test_a_completion(client: Any) -> None:
    made = client.completions.create(model="writer", prompt="a b", max_tokens=3)
    assert made.choices[0].text == "a0 b1 a2 "
    assert made.choices[0].finish_reason == "length"
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (2, 3, 5)
    assert made.object == "text_completion"
    assert made.id.startswith("cmpl-")
    assert abs(made.created - time.time()) < 3600


def test_a_completion_has_sixteen_tokens_where_nobody_says_how_many(client: Any) -> None:
    assert client.completions.create(model="writer", prompt="a").usage.completion_tokens == 16


def test_echo_puts_the_prompt_before_the_text(client: Any) -> None:
    made = client.completions.create(model="writer", prompt="a ", max_tokens=1, echo=True)
    assert made.choices[0].text == "a a0 "
    parts = client.completions.create(model="writer", prompt="a ", max_tokens=1, echo=True, stream=True)
    assert "".join(part.choices[0].text for part in parts) == "a a0 "


def test_a_chat(client: Any) -> None:
    made = client.chat.completions.create(
        model="writer",
        messages=[{"role": "system", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "y"}]}],
        max_completion_tokens=4,
    )
    assert made.choices[0].message.content == "system0 x1 user2 y3 "
    assert made.choices[0].message.role == "assistant"
    assert made.choices[0].finish_reason == "length"
    assert made.usage.prompt_tokens == 4


def test_a_chat_goes_on_to_the_end_of_the_context(client: Any) -> None:
    made = client.chat.completions.create(model="writer", messages=[{"role": "user", "content": "x"}])
    assert made.usage.total_tokens == 2000


def test_tools_reach_the_template(client: Any) -> None:
    asked = {"model": "writer", "messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 3}
    assert client.chat.completions.create(**asked, tools=[CLOCK]).choices[0].message.content.endswith("clock2 ")
    without = client.chat.completions.create(**asked, tools=[CLOCK], tool_choice="none")
    assert "clock" not in without.choices[0].message.content


@pytest.mark.parametrize("stop", ["c2", ["zzz", "c2"], ["1 c2 "]])
def test_stop_texts_are_not_part_of_the_answer_though_they_come_in_pieces(client: Any, stop: Any) -> None:
    expected = "a0 b1 " if stop != ["1 c2 "] else "a0 b"
    made = client.completions.create(model="writer", prompt="a b c", max_tokens=9, stop=stop)
    assert (made.choices[0].text, made.choices[0].finish_reason) == (expected, "stop")
    parts = list(client.completions.create(model="writer", prompt="a b c", max_tokens=9, stop=stop, stream=True))
    assert "".join(part.choices[0].text for part in parts) == expected
    assert parts[-1].choices[0].finish_reason == "stop"


def test_a_beginning_of_a_stop_text_is_sent_when_it_comes_to_nothing(client: Any) -> None:
    made = client.completions.create(model="writer", prompt="a b", max_tokens=2, stop="1 z")
    assert (made.choices[0].text, made.choices[0].finish_reason) == ("a0 b1 ", "length")


def test_parts_of_a_chat_come_as_they_are_written(client: Any) -> None:
    with client.chat.completions.create(
        model="writer",
        messages=[{"role": "user", "content": "x"}],
        max_completion_tokens=6,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        parts = list(stream)
    assert parts[0].choices[0].delta.role == "assistant"
    texts = [part.choices[0].delta.content for part in parts if part.choices and part.choices[0].delta.content]
    assert texts == ["user0 ", "x1 ", "user2 ", "x3 ", "user4 ", "x5 "]
    assert parts[-2].choices[0].finish_reason == "length"
    assert parts[-1].choices == []
    assert parts[-1].usage.completion_tokens == 6
    assert all(part.usage is None for part in parts[:-1])
    assert len({part.id for part in parts}) == 1


def test_the_first_part_comes_long_before_the_last(server: Runtime) -> None:
    body = json.dumps({"prompt": "slow", "max_tokens": 100, "stream": True})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/completions", body)
    response = connection.getresponse()
    assert response.getheader("content-type") == "text/event-stream"
    first = response.readline()
    assert b'"slow0 "' in first
    assert server.ask("GET", "/health")[0] == 200
    rest = response.read()
    assert rest.count(b"data: ") == 101
    assert rest.endswith(b"data: [DONE]\n\n")
    connection.close()


def test_the_client_gathers_parts_itself(client: Any) -> None:
    with client.chat.completions.stream(
        model="writer", messages=[{"role": "user", "content": "x"}], max_completion_tokens=9, stop="user2"
    ) as stream:
        assert stream.get_final_completion().choices[0].message.content == "user0 x1 "


async def _asked_at_once(server: Runtime) -> list[str]:
    import asyncio

    asking = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="x", max_retries=0)
    async with asking:
        asked = [asking.completions.create(model="writer", prompt=f"p{n}", max_tokens=2) for n in range(32)]
        return [one.choices[0].text for one in await asyncio.gather(*asked)]


def test_many_at_once_get_their_own_texts(server: Runtime) -> None:
    import asyncio

    assert asyncio.run(_asked_at_once(server)) == [f"p{n}0 p{n}1 " for n in range(32)]


# errors


def refused(client: Any, **body: Any) -> Any:
    given = {"model": "writer", "messages": [{"role": "user", "content": "x"}], **body}
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{name: value for name, value in given.items() if value is not ...})
    return caught.value


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"n": 9}, "n", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "unsupported_parameter"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "required", "tools": [CLOCK]}, "tool_choice", "unsupported_parameter"),
        ({"tool_choice": "sometimes", "tools": [CLOCK]}, "tool_choice", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "invalid_value"),
        ({"max_completion_tokens": 1999}, "messages", "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "x " * 3000}]}, "messages", "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "x" * 3_000_000}]}, "messages", "context_length_exceeded"),
        ({"extra_body": {"temprature": 1}}, "temprature", "unknown_parameter"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
            "messages[0].content[0]",
            "invalid_value",
        ),
    ],
)
def test_what_cannot_be_done_is_said_with_the_name_of_the_member(
    client: Any, body: dict[str, Any], param: str, code: str
) -> None:
    error = refused(client, **body)
    assert isinstance(error, openai.BadRequestError)
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert error.message


def test_what_asks_for_nothing_special_is_taken(client: Any) -> None:
    made = client.chat.completions.create(
        model="writer",
        messages=[{"role": "user", "content": "x"}],
        max_tokens=1,
        n=1,
        frequency_penalty=0,
        presence_penalty=0,
        logit_bias={},
        user="somebody",
        metadata={"a": "b"},
        store=False,
        parallel_tool_calls=True,
        response_format={"type": "text"},
        seed=7,
        top_p=0.5,
        stop=None,
        extra_body={"top_k": 4, "repetition_penalty": 1.1},
    )
    assert made.choices[0].message.content == "user0 "


def test_another_model_is_not_found(client: Any) -> None:
    error = refused(client, model="gpt-4")
    assert isinstance(error, openai.NotFoundError)
    assert error.code == "model_not_found"


def test_prompts_that_are_too_many_or_tokens_are_refused(client: Any) -> None:
    for prompt in (["a"] * 9, [1, 2], [[1], [2]], [], ["a", 1]):
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="writer", prompt=prompt)
        assert caught.value.param == "prompt"
    assert client.completions.create(model="writer", prompt=["a"], max_tokens=1).choices[0].text == "a0 "


def test_a_model_that_refuses_or_fails_before_its_first_token(client: Any, server: Runtime) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="writer", prompt="refuse", stream=stream)
        with pytest.raises(openai.InternalServerError) as caught:
            client.completions.create(model="writer", prompt="broken", stream=stream)
        assert caught.value.type == "server_error"
        assert caught.value.message.endswith("The model failed on this request.'}}") or "broken" not in str(
            caught.value.body
        )
    assert server.event("generation failed")


def test_a_model_that_fails_after_its_first_token_says_so_in_a_part(client: Any) -> None:
    stream = client.completions.create(model="writer", prompt="fail", stream=True)
    got: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        got.extend(part.choices[0].text for part in stream)
    assert caught.value.message == "The model failed on this request."
    with pytest.raises(openai.InternalServerError):
        client.completions.create(model="writer", prompt="fail")


def test_wrong_paths_and_methods_are_errors_of_the_same_form(server: Runtime) -> None:
    for method, path, status in (
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/completions", 405),
        ("POST", "/v1/embeddings", 404),
    ):
        got, body = server.ask(method, path, b"{}" if method == "POST" else None)
        assert got == status
        assert body["error"]["type"] == "invalid_request_error"
        assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"x"', b'{"messages": ' + b"[" * 100_000, b"\xff\xfe"])
def test_bodies_that_are_none(server: Runtime, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    assert response.status == 400
    assert error["type"] == "invalid_request_error"
    connection.close()


def test_keys(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path), config(), LIGHTSHIP_API_KEYS="me:correct-horse").ready()
    with pytest.raises(openai.AuthenticationError) as caught:
        client_of(server, api_key="wrong").models.list()
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        client_of(server, api_key="wrong").completions.create(model="writer", prompt="a")
    right = client_of(server, api_key="correct-horse")
    assert right.completions.create(model="writer", prompt="a", max_tokens=1).choices[0].text == "a0 "


def test_a_full_queue(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path), config(queue=0, concurrency=1)).ready()
    client = client_of(server)
    with client.completions.create(model="writer", prompt="slow", max_tokens=500, stream=True) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(model="writer", prompt="a")
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.response.headers["retry-after"] == "1"


def test_a_long_text_is_not_late_while_it_is_written(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path), config(timeout=1.0)).ready()
    client = client_of(server)
    for stream in (False, True):
        began = time.monotonic()
        made = client.completions.create(model="writer", prompt="slow", max_tokens=130, stream=stream)
        if stream:
            assert list(made)[-1].choices[0].finish_reason == "length"
        else:
            assert made.usage.completion_tokens == 130
        assert time.monotonic() - began > 2  # longer than the timeout: 130 tokens of 20 ms


# embeddings


def test_embeddings(start: Any, tmp_path: Path) -> None:
    (tmp_path / "vectors.py").write_text(VECTORS)
    model = {"path": "vectors.py", "format": "python", "engine": "python"}
    server = start(tmp_path, {"model": model, "name": "vectors"}).ready()
    client = client_of(server)
    by_default = client.embeddings.create(model="vectors", input=["aa", "b"])  # base64, as the client prefers
    assert [list(map(float, one.embedding)) for one in by_default.data] == [
        [2, 2, pytest.approx(0.1)],
        [1, 0, pytest.approx(0.1)],
    ]
    as_floats = client.embeddings.create(model="vectors", input="banana", encoding_format="float", dimensions=3)
    assert as_floats.data[0].embedding == [6, 3, 0.1]
    assert as_floats.model == "vectors"
    assert math.isclose(as_floats.usage.total_tokens, as_floats.usage.prompt_tokens)
    wrong: dict[str, Any]
    for wrong in ({"input": []}, {"input": ""}, {"input": [1, 2]}, {"input": ["a"] * 2049}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="vectors", **wrong)
        assert caught.value.param == "input"
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="vectors", input="a", dimensions=2)
    assert caught.value.param == "dimensions"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="vectors", prompt="a")
    assert [one.id for one in client.models.list()] == ["vectors"]


def test_models_of_neither_kind_have_none_of_it(start: Any, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("def predict(instances): return instances\n")
    server = start(tmp_path, {"model": {"path": "plain.py", "format": "python", "engine": "python"}}).ready()
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("GET", "/generate?prompt=x")):
        status, body = server.ask(method, path, b"{}" if method == "POST" else None)
        assert status == 404
        assert isinstance(body["error"], str)


# clients that leave


def running(server: Runtime) -> int:
    status, body = server.ask("GET", "/generate?prompt=running")
    assert status == 200
    return int(body["text"]) - 1  # itself


def memory(server: Runtime) -> int:
    """KiB of all processes of the server."""
    found = 0
    for pid in [server.process.pid, *family(server.process.pid)]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:")))
    return found


def leave_in_the_middle(server: Runtime, count: int) -> None:
    body = json.dumps({"prompt": "slow", "max_tokens": 1900, "stream": True}).encode()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", server.port), 60) as client:
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )
            assert b"200 OK" in client.recv(4096)


def test_a_hundred_clients_that_leave_in_the_middle_leak_neither_slots_nor_memory(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path), config()).ready()
    leave_in_the_middle(server, 20)
    before = memory(server)
    leave_in_the_middle(server, 100)
    deadline = time.monotonic() + 60
    while running(server) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(server) == 0
    assert memory(server) - before < 4 << 10  # KiB
    text = metrics(server)
    assert text["lightship_requests_in_flight"] == 0
    assert text["lightship_generation_tokens_total"] < 120 * 1900 / 4  # they were not written to the end


def test_clients_that_leave_before_the_answer_end_the_work_as_well(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path), config()).ready()
    impatient = client_of(server, timeout=0.3)
    for _ in range(3):
        with pytest.raises(openai.APITimeoutError):
            impatient.completions.create(model="writer", prompt="slow", max_tokens=1900)
    deadline = time.monotonic() + 20  # a text takes 38 seconds
    while running(server) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(server) == 0


# figures


def metrics(server: Runtime) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_metrics_count_tokens_and_the_time_to_the_first(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path), config()).ready()
    client = client_of(server)
    client.completions.create(model="writer", prompt="a b c", max_tokens=5)
    list(client.completions.create(model="writer", prompt="slow", max_tokens=5, stream=True))
    told = metrics(server)
    assert told["lightship_prompt_tokens_total"] == 4
    assert told["lightship_generation_tokens_total"] == 10
    label = '{gen_ai_operation_name="text_completion"}'
    assert told[f"gen_ai_server_time_to_first_token_seconds_count{label}"] == 2
    assert told[f"gen_ai_server_time_per_output_token_seconds_count{label}"] == 2
    assert told[f"gen_ai_server_time_per_output_token_seconds_sum{label}"] >= 0.02


# /generate, and without OpenAI's client


def test_generate(server: Runtime) -> None:
    expected = {
        "text": "a0 b1 ",
        "finish_reason": "length",
        "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
    }
    assert server.ask("GET", "/generate?prompt=a+b&max_tokens=2&temperature=0.5") == (200, expected)
    assert server.ask("POST", "/generate", b'{"prompt": "a b", "max_tokens": 2, "seed": 1}') == (200, expected)
    assert server.ask("GET", "/generate?prompt=a+b&stop=b1&stop=x")[1]["text"] == "a0 "
    chat = server.ask("POST", "/generate", b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}')
    assert chat[1]["text"] == "user0 "


@pytest.mark.parametrize(
    "query",
    [
        *("", "prompt=x&prompt=y", "prompt=x&max_tokens=many", "prompt=x&temperature=nan", "prompt=x&top_p=inf"),
        *("prompt=x&temprature=1", "prompt=x&messages=y", "prompt=%ff", "prompt=x&stop=", "&".join("a" * 40)),
    ],
)
def test_queries_that_are_wrong(server: Runtime, query: str) -> None:
    status, body = server.ask("GET", f"/generate?{query}")
    assert status == 400
    assert isinstance(body["error"], str)


def test_generate_with_curl(server: Runtime) -> None:
    url = f"http://127.0.0.1:{server.port}/generate"
    done = subprocess.run(
        ["curl", "-sN", url, "-d", '{"prompt": "a", "max_tokens": 2, "stream": true}'],
        capture_output=True,
        check=True,
        timeout=60,
    )
    events = [line.removeprefix("data: ") for line in done.stdout.decode().split("\n\n") if line]
    assert events[-1] == "[DONE]"
    parts = [json.loads(event) for event in events[:-1]]
    assert [part["text"] for part in parts] == ["a0 ", "a1 ", ""]
    assert parts[-1]["finish_reason"] == "length"


def test_head_writes_no_text(server: Runtime) -> None:
    assert server.ask("HEAD", "/generate?prompt=x")[0] == 405


def test_a_model_of_text_answers_predictions_as_well(server: Runtime) -> None:
    body = {"instances": ["a"], "parameters": {"max_tokens": 2}}
    assert server.predict(body) == (200, {"predictions": ["a0 a1 "]})
    assert server.predict({"instances": ["a"], "parameters": {"max_tokens": -1}})[0] == 400
    assert server.predict({"instances": ["a"], "parameters": {"tokens": 1}})[0] == 400


def test_a_golden_chat(start: Any, tmp_path: Path) -> None:
    golden = {
        "path": "/v1/chat/completions",
        "request": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
        "response": {"choices": [{"message": {"content": "user0 "}}]},
    }
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    assert start(write_app(tmp_path), config(golden="golden.json")).ready().event("warm-up")


SLOW_START = """
import time
def load(): time.sleep(3)
def generate(model, prompt): yield "x"
"""


def test_before_the_model_is_there(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path, SLOW_START), config())
    server.wait_for("listening")
    with pytest.raises(openai.InternalServerError) as caught:
        client_of(server).models.list()
    assert caught.value.status_code == 503
    assert caught.value.type == "server_error"
    assert "not ready" in caught.value.message
    server.ready()
    assert client_of(server).completions.create(model="writer", prompt="a").choices[0].finish_reason == "stop"


def test_a_model_that_fails_on_its_first_text_is_not_served(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path, "def generate(prompt):\n    yield 3\n"), config())
    _, failed = server.failure()
    assert "first text" in failed["message"]


def test_a_body_that_is_too_large_is_an_error_of_the_same_form(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path), config(body_limit=1000)).ready()
    with pytest.raises(openai.APIStatusError) as caught:
        client_of(server).completions.create(model="writer", prompt="x" * 2000)
    assert caught.value.status_code == 413
    assert caught.value.type == "invalid_request_error"
