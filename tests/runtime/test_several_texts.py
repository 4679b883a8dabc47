"""Several texts for one request: each with its number and its end, counted once, bounded, and none left behind."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_checks import load
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_servers import Runtime
from writing_model import config, write_app

from lightship_runtime.frames import Left, More
from lightship_runtime.front.links import Link
from lightship_runtime.host.answering import Answering
from lightship_runtime.log import Log
from lightship_runtime.payload import Call, RequestError
from lightship_runtime.payload.call import Outcome, Places

# Writes its seed. A prompt "slow" takes its time, "short" ends by itself where the seed is even, "fail" fails where
# it is 13; "most" tells how many texts have been written at once since it was asked for last.
SEEDED = """
import threading, time
slots = 3
context = 200
running, most, lock = set(), [0], threading.Lock()

def apply_chat_template(messages): return messages[-1]["content"]

def generate(prompt, max_tokens, seed=None):
    with lock:
        if prompt == "most":
            told, most[0] = most[0], len(running)
        else:
            running.add(threading.get_ident())
            most[0] = max(most[0], len(running))
    try:
        if prompt == "most":
            yield f"{told} {len(running)}"
            return
        for number in range(max_tokens):
            if prompt == "fail" and seed == 13 and number == 2:
                raise RuntimeError("broken")
            if prompt == "short" and (seed or 0) % 2 == 0:
                return
            if prompt == "slow":
                time.sleep(0.01)
            yield f"{seed}.{number} "
    finally:
        running.discard(threading.get_ident())
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_app(tmp_path_factory.mktemp("seeded"), SEEDED)


@pytest.fixture(scope="module")
def server(app: Path) -> Iterator[Runtime]:
    with closing(Runtime(app, config(metrics_open=True), {})) as runtime:
        yield runtime.ready()


@pytest.fixture
def client(server: Runtime) -> Any:
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="x", max_retries=0)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def post(server: Runtime, **body: Any) -> tuple[int, Any]:
    return server.ask("POST", "/v1/completions", json.dumps(body).encode())


def at_once(server: Runtime) -> tuple[int, int]:
    """How many texts have been written at once since this was asked last, and how many are now."""
    most, now = post(server, prompt="most")[1]["choices"][0]["text"].split()
    return int(most), int(now)


def idle(server: Runtime) -> bool:
    for _ in range(2000):
        if at_once(server)[1] == 0:
            return True
        threading.Event().wait(0.01)
    return False


# answers


def test_choices_of_a_chat_have_numbers_and_seeds(client: Any) -> None:
    asked = {"model": "writer", "messages": user("x"), "max_tokens": 2, "n": 3, "seed": 1}
    made = client.chat.completions.create(**asked)
    assert [one.index for one in made.choices] == [0, 1, 2]
    assert [one.message.content for one in made.choices] == ["1.0 1.1 ", "2.0 2.1 ", "3.0 3.1 "]
    assert {one.finish_reason for one in made.choices} == {"length"}
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (1, 6, 7)
    again = client.chat.completions.create(**asked)
    assert [one.message for one in again.choices] == [one.message for one in made.choices]


def test_each_choice_ends_for_its_own_reason(client: Any) -> None:
    made = client.completions.create(model="writer", prompt="short", max_tokens=3, n=4, seed=1, best_of=4, stop="3.1")
    assert [(one.text, one.finish_reason) for one in made.choices] == [
        ("1.0 1.1 1.2 ", "length"),
        ("", "stop"),
        ("3.0 ", "stop"),
        ("", "stop"),
    ]
    assert made.usage.completion_tokens == 5


def test_several_prompts_have_their_choices_in_turn(client: Any) -> None:
    made = client.completions.create(model="writer", prompt=["a b", "c"], max_tokens=1, n=2, seed=5, echo=True)
    assert [one.text for one in made.choices] == ["a b5.0 ", "a b6.0 ", "c5.0 ", "c6.0 "]
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (3, 4)


def test_parts_of_all_choices_come_as_they_are_written(client: Any) -> None:
    parts = list(
        client.chat.completions.create(
            model="writer",
            messages=user("slow"),
            max_tokens=8,
            n=3,
            seed=1,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len({part.id for part in parts}) == 1
    assert (parts[-1].choices, parts[-1].usage.prompt_tokens, parts[-1].usage.completion_tokens) == ([], 1, 24)
    assert all(len(part.choices) == 1 and part.usage is None for part in parts[:-1])
    order = [part.choices[0].index for part in parts[:-1]]
    assert order != sorted(order)  # side by side, not one after the other
    for index in range(3):
        own = [part.choices[0] for part in parts[:-1] if part.choices[0].index == index]
        assert [one.delta.role for one in own] == ["assistant", *[None] * 9]
        text = "".join(one.delta.content or "" for one in own)
        assert text == "".join(f"{index + 1}.{number} " for number in range(8))
        assert [one.finish_reason for one in own] == [*[None] * 9, "length"]


def test_one_that_fails_fails_the_request(server: Runtime, client: Any) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.InternalServerError):
        client.completions.create(model="writer", prompt="fail", max_tokens=90, n=3, seed=11)
    with pytest.raises(openai.APIError, match="failed on this request"):
        list(client.completions.create(model="writer", prompt="fail", max_tokens=90, n=3, seed=11, stream=True))
    assert idle(server)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"n": 2, "best_of": 3}, "best_of"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": ["a"] * 3, "n": 3}, "prompt"),
        ({"prompt": ["a", "b " * 200]}, "prompt"),
    ],
)
def test_what_is_too_much_is_refused(server: Runtime, body: dict[str, Any], param: str) -> None:
    status, answer = post(server, **{"prompt": "a", **body})
    assert (status, answer["error"]["param"]) == (400, param)


# places


def test_texts_of_one_request_take_what_is_free_and_no_more(server: Runtime) -> None:
    assert idle(server)
    at_once(server)
    assert post(server, prompt="slow", max_tokens=20, n=8)[0] == 200
    assert at_once(server) == (3, 0)


def test_with_one_place_they_are_written_one_after_the_other(start: Any, tmp_path: Path) -> None:
    one = start(write_app(tmp_path, SEEDED), config(concurrency=1)).ready()
    at_once(one)
    status, made = post(one, prompt="slow", max_tokens=3, n=4, seed=1)
    assert [choice["text"][:3] for choice in made["choices"]] == ["1.0", "2.0", "3.0", "4.0"]
    assert (status, at_once(one)) == (200, (1, 0))


def test_who_asks_for_one_text_does_not_wait_for_all_of_the_others(server: Runtime) -> None:
    several = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"prompt": "slow", "max_tokens": 40, "n": 8, "stream": True})
    several.request("POST", "/v1/completions", body)
    response = several.getresponse()
    response.readline()
    single = post(server, prompt="a", max_tokens=1)
    assert single[0] == 200
    rest = response.read().decode()
    several.close()
    assert rest.endswith("data: [DONE]\n\n")
    ends = rest.count('"finish_reason":"length"')
    assert ends == 8
    assert idle(server)


def test_who_leaves_frees_all_places(server: Runtime) -> None:
    body = json.dumps({"prompt": "slow", "max_tokens": 190, "n": 8, "stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), 60) as leaving:
            leaving.sendall(head + body)
            received = b""
            while received.count(b"data: ") < 6:
                received += leaving.recv(1 << 12)
    assert idle(server)
    at_once(server)
    assert post(server, prompt="slow", max_tokens=20, n=3)[0] == 200
    assert at_once(server) == (3, 0)  # none is missing


def test_a_prompt_waits_with_the_tokens_of_all_its_texts(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path, SEEDED), config(concurrency=1, queue_tokens=20, metrics_open=True)).ready()
    first = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    first.request("POST", "/v1/completions", json.dumps({"prompt": "slow", "max_tokens": 190, "stream": True}))
    first.getresponse().readline()
    codes: list[int] = []
    waits = threading.Thread(target=lambda: codes.append(post(server, prompt="a b c", n=4, max_tokens=1)[0]))
    waits.start()
    for _ in range(1000):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/metrics")
        if b"lightship_prompt_tokens_waiting 12" in connection.getresponse().read():
            break
        threading.Event().wait(0.01)
    else:
        raise AssertionError("it does not wait with 12 tokens")
    assert post(server, prompt="a b c", n=3, max_tokens=1)[0] == 429
    first.close()
    waits.join(60)
    assert codes == [200]


STEPS = st.lists(st.tuples(st.sampled_from(["front", "worker", "end"]), st.integers(0, 3)), max_size=60)


@settings(max_examples=500, deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(2, 8), min_size=1, max_size=4), STEPS)
def test_front_and_worker_agree_on_places_however_their_messages_cross(
    slots: int, requests: list[int], steps: list[tuple[str, int]]
) -> None:
    link = Link(None, 1, slots)  # type: ignore[arg-type]  # nothing is dispatched here
    to_worker: list[More] = []
    to_front: list[Left] = []
    link.send = to_worker.append  # type: ignore[method-assign, assignment]
    left = dict(enumerate(requests[:slots]))
    places = {number: _place(number, to_front) for number in left}
    for number, count in left.items():
        link.works[number] = []
        places[number].want(count, lambda: None)
    for step, which in steps:
        if step == "front" and to_front:
            link.left(to_front.pop(0))
            link.share()
        elif step == "worker" and to_worker:
            more = to_worker.pop(0)
            if more.number in left:
                places[more.number].grant(more.places)
        elif step == "end" and left:
            number = sorted(left)[which % len(left)]
            left[number] -= 1
            places[number].ended()
            if left[number] == 0:
                del left[number], link.works[number]
                link.places.pop(number, None)
        assert sum(min(count, places[number].granted) for number, count in left.items()) <= slots
        assert link.free >= 0
        assert all(one.more >= 0 for one in link.places.values())
    while to_front or to_worker:  # when all is said, nothing is lost: what is free is with those that can use it
        if to_front:
            link.left(to_front.pop(0))
            link.share()
        elif (more := to_worker.pop(0)).number in left:
            places[more.number].grant(more.places)
    assert sum(places[number].granted for number in left) == min(slots, sum(left.values()))


def _place(number: int, to_front: list[Left]) -> Places:
    return Places(lambda texts, back: to_front.append(Left(number, texts, back)))


# without a server


def answering(app: Path) -> Answering:
    return Answering(load(app / "writer.py", "python", "python"), "writer", "python", Log(io.StringIO()))


def test_closing_ends_all_texts(app: Path) -> None:
    made = answering(app)
    before = threading.active_count()
    for count in range(1, 12):
        outcome = Outcome()
        outcome.places.grant(2)
        call = Call("completions", b'{"prompt": "slow", "n": 5, "max_tokens": 190, "stream": true}')
        parts = made.stream(call, outcome)
        for _ in range(count):
            next(parts)
        parts.close()  # type: ignore[attr-defined]  # a generator
        assert outcome.generated is not None
        assert 1 <= outcome.generated.completion_tokens < 300
        assert threading.active_count() == before


NUMBERS = st.integers(-1, 10) | st.none() | st.sampled_from([True, 1.0, "1", []])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["chat", "completions"]),
    st.fixed_dictionaries(
        {},
        optional={
            "n": NUMBERS,
            "best_of": NUMBERS,
            "seed": st.integers(-5, 5),
            "prompt": st.lists(st.sampled_from(["a", "a b", "short"]), max_size=5),
            "stream": st.booleans(),
            "max_tokens": st.integers(1, 5),
            "echo": st.booleans(),
            "stop": st.sampled_from(["1.1", ["2"]]),
        },
    ),
)
def test_bodies_with_several_texts_are_answered_or_refused(
    app_answering: Answering, protocol: Any, body: dict[str, Any]
) -> None:
    if protocol == "chat":
        body = {name: value for name, value in body.items() if name not in ("prompt", "best_of", "echo")}
        body["messages"] = user("a")
    else:
        body = {"prompt": "a", **body}
    outcome = Outcome()
    try:
        found = app_answering.stream(Call(protocol, json.dumps(body).encode()), outcome)
        parts = [json.loads(part) for part in found if part]
    except RequestError as error:
        assert error.status == 400
        assert error.param in ("n", "best_of", "prompt")
        return
    prompts = body.get("prompt", "a")
    wanted = (body.get("n") or 1) * (1 if isinstance(prompts, str) else len(prompts))
    choices = (
        [choice for part in parts for choice in part["choices"]]
        if body.get("stream")
        else json.loads(outcome.answer.body)["choices"]
    )
    assert {choice["index"] for choice in choices} == set(range(wanted))
    assert sum(choice["finish_reason"] is not None for choice in choices) == wanted


@pytest.fixture(scope="module")
def app_answering(app: Path) -> Answering:
    return answering(app)
