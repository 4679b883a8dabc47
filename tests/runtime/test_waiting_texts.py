"""Texts that wait for a slot: counted, bounded, refused at once where they cannot be answered, and taken by turns."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writing_model import config, write_app

from lightship_runtime.front.waiting import FairQueue, Pending
from lightship_runtime.payload.call import Call

# One text at a time; that of "first" ends when there is a file `go`. Each notes its first word in `order`.
GATED = """
import pathlib, time
context = 100

def generate(prompt, max_tokens):
    with open("order", "a") as file:
        file.write(prompt.split()[0] + "\\n")
    yield "begun"
    while prompt.startswith("first") and not pathlib.Path("go").exists():
        time.sleep(0.01)
"""


class Asker:
    """One request in a thread of its own."""

    def __init__(self, server: Any, prompt: str, key: str = "", path: str = "/v1/completions", **more: Any) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: Any = None
        self._server = server
        self._sent = json.dumps({"prompt": prompt, "max_tokens": 1, **more}).encode()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._path = path
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        try:
            connection.request("POST", self._path, self._sent, self._headers)
            response = connection.getresponse()
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            self.body = json.loads(response.read())
            self.status = response.status
        finally:
            connection.close()

    def answered(self) -> Asker:
        self._thread.join(60)
        assert self.status
        return self


@pytest.fixture
def gated(start: Any, tmp_path: Path) -> Any:
    """`gated(**settings)`: a server whose only slot is taken until there is a file `go`."""

    def starting(**settings: Any) -> Any:
        environment = {"LIGHTSHIP_API_KEYS": settings.pop("keys")} if "keys" in settings else {}
        server = start(write_app(tmp_path, GATED), config(metrics_open=True, **settings), **environment).ready()
        (tmp_path / "order").unlink(missing_ok=True)  # of the first text, which warms up
        return server

    yield starting


def opened(server: Any) -> None:
    (server.app / "go").touch()


def waiting(server: Any, count: int, tokens: int) -> None:
    """Wait until so many requests, with so many tokens, are in the queue."""
    for _ in range(6000):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = [f"lightship_requests_waiting {count}" in text, f"lightship_prompt_tokens_waiting {tokens}" in text]
        if all(found):
            return
        threading.Event().wait(0.01)
    raise AssertionError(text)


def begun(server: Any, count: int = 1) -> list[str]:
    """Wait until so many texts have been begun."""
    for _ in range(6000):
        order = server.app / "order"
        lines = order.read_text().split() if order.exists() else []
        if len(lines) >= count:
            return lines
        threading.Event().wait(0.01)
    raise AssertionError(lines)


LONG = {"max_tokens": 50}


def test_what_can_never_be_answered_does_not_wait(gated: Any) -> None:
    server = gated()
    first = Asker(server, "first", **LONG)
    begun(server)
    behind = Asker(server, "second prompt")
    waiting(server, 1, 2)
    refused = Asker(server, "word " * 101).answered()
    assert (refused.status, refused.body["error"]["code"]) == (400, "context_length_exceeded")
    wrong = Asker(server, "a", temperature=7).answered()
    assert (wrong.status, wrong.body["error"]["param"]) == (400, "temperature")
    plain = Asker(server, "word " * 101, path="/generate").answered()
    assert (plain.status, list(plain.body)) == (400, ["error"])
    assert (first.status, behind.status) == (0, 0)
    opened(server)
    assert (first.answered().status, behind.answered().status) == (200, 200)
    assert begun(server) == ["first", "second"]


def test_tokens_that_wait_are_bounded(gated: Any) -> None:
    server = gated(queue_tokens=12)
    first = Asker(server, "first", **LONG)
    begun(server)
    some = Asker(server, "some " * 8)
    waiting(server, 1, 8)
    refused = Asker(server, "more " * 5).answered()
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert (refused.body["error"]["type"], refused.body["error"]["code"]) == (
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    few = Asker(server, "few " * 4)
    waiting(server, 2, 12)
    assert Asker(server, "one", path="/generate").answered().body == {
        "error": "Too many tokens are waiting. Try again."
    }
    opened(server)
    assert [one.answered().status for one in (first, some, few)] == [200, 200, 200]
    waiting(server, 0, 0)


def test_one_prompt_alone_may_always_wait(gated: Any) -> None:
    server = gated(queue_tokens=1)
    first = Asker(server, "first", **LONG)
    begun(server)
    large = Asker(server, "large " * 60)
    waiting(server, 1, 60)
    assert Asker(server, "a").answered().status == 429
    opened(server)
    assert [one.answered().status for one in (first, large)] == [200, 200]


def test_by_default_as_many_tokens_wait_as_the_model_works_on(gated: Any) -> None:
    server = gated()  # a context of 100, one slot
    first = Asker(server, "first", **LONG)
    begun(server)
    large = Asker(server, "large " * 90)
    waiting(server, 1, 90)
    assert Asker(server, "b " * 11).answered().status == 429
    rest = Asker(server, "c " * 10)
    waiting(server, 2, 100)
    opened(server)
    assert [one.answered().status for one in (first, large, rest)] == [200] * 3


def test_keys_take_turns(gated: Any) -> None:
    server = gated(keys="anna:annas-own-key,ben:bens-own-key")
    asked = [Asker(server, "first", "annas-own-key", **LONG)]
    begun(server)
    for number in range(4):
        asked.append(Asker(server, f"anna{number}", "annas-own-key"))
        waiting(server, number + 1, number + 1)
    for number in range(2):
        asked.append(Asker(server, f"ben{number}", "bens-own-key"))
        waiting(server, number + 5, number + 5)
    opened(server)
    assert [one.answered().status for one in asked] == [200] * 7
    assert begun(server, 7) == ["first", "anna0", "ben0", "anna1", "ben1", "anna2", "anna3"]


OWNERS = st.sampled_from(["", "anna", "ben", "carl"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(OWNERS, st.booleans()) | st.none(), max_size=40))
def test_the_queue_is_fair_and_loses_nothing(steps: list[tuple[str, bool] | None]) -> None:
    queue = FairQueue()
    expected: dict[str, list[Pending]] = {}
    for number, step in enumerate(steps):
        if step is not None:
            owner, gone = step
            pending = Pending(Call("generate", b""), float(number), lambda answer: None, None, owner)
            queue.append(pending)
            if gone:
                pending.done = True
            else:
                expected.setdefault(owner, []).append(pending)
            continue
        first = queue.first()
        assert (first is None) == (not any(expected.values()))
        if first is not None:
            assert expected[first.owner].pop(0) is first  # its owner's oldest
            queue.take()
    left = [pending for line in expected.values() for pending in line]
    assert sorted(map(id, queue)) == sorted(map(id, left))
    queue.compact(0)
    order = []
    while (first := queue.first()) is not None:
        order.append(first.owner)
        queue.take()
    assert len(order) == len(left)
    owners = len(set(order))
    assert len(set(order[:owners])) == owners  # everybody has had a turn before anybody has a second one


def test_what_has_come_long_ago_is_found_in_every_line() -> None:
    queue = FairQueue()
    several = [
        Pending(Call("generate", b""), float(at), lambda answer: None, None, owner)
        for at, owner in enumerate("aabbaab")
    ]
    for pending in several:
        queue.append(pending)
    several[1].done = True
    assert sorted(one.arrived for one in queue.arrived_before(4)) == [0, 2, 3]
    assert sorted(one.arrived for one in queue) == [4, 5, 6]
