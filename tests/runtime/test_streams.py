"""Answers in parts over real connections: their forms, their errors, silence, and clients that go away."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from test_fuzz import gauge

MODEL = """
import pathlib, sys, time
kind = "any"
def predict(instance):
    what, count = instance
    if what == "refused at once": raise ValueError("not this one")
    if what == "failed at once": raise RuntimeError("a secret")
    if what == "exit at once": sys.exit(0)
    try:
        for number in range(count):
            if what == "slow": time.sleep(0.02)
            if what == "silent": time.sleep(0.9)
            if what == "gate" and number:
                while not pathlib.Path("go").exists(): time.sleep(0.02)
            pathlib.Path("parts").write_text(str(number))
            yield {"part": number, "more": "x" * (100_000 if what == "large" else 0)}
        if what == "refused later": raise ValueError("not this one")
        if what == "failed later": raise RuntimeError("a secret")
    finally:
        with open("ended", "a") as file: file.write(".")
"""
CONFIG = {"model": {"path": "model.py", "format": "python", "engine": "python"}, "heartbeat": 0.3}
TYPES = {"text/event-stream": "events", "application/x-ndjson": "lines"}


@pytest.fixture
def served(start: Any, tmp_path: Path) -> Any:
    (tmp_path / "model.py").write_text(MODEL)
    return start(tmp_path, CONFIG).ready()


def streamed(server: Any, what: str, count: int, accept: str) -> tuple[int, str | None, str]:
    """Status, type and text of an answer in parts."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"instances": [[what, count]]}).encode()
    connection.request("POST", "/predict", body, {"Content-Type": "application/json", "Accept": accept})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.getheader("content-type"), text


def opened(server: Any, what: str, count: int) -> socket.socket:
    """A connection on which an answer in parts was asked for."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    body = json.dumps({"instances": [[what, count]]}).encode()
    head = b"POST /predict?stream=true HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    connection.sendall(head % len(body) + body)
    return connection


def last_part(server: Any) -> int:
    """The number of the last part that the model gave."""
    while not (text := (server.app / "parts").read_text()):  # it is being written
        time.sleep(0.01)
    return int(text)


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_parts_come_in_both_forms(served: Any) -> None:
    status, kind, text = streamed(served, "good", 2, "text/event-stream")
    assert (status, kind) == (200, "text/event-stream")
    parts = ['data: {"part":0,"more":""}', 'data: {"part":1,"more":""}', "event: done\ndata: {}", ""]
    assert text.split("\n\n") == parts
    status, kind, text = streamed(served, "good", 2, "application/x-ndjson")
    assert (status, kind) == (200, "application/x-ndjson")
    assert [json.loads(line)["part"] for line in text.splitlines()] == [0, 1]


@pytest.mark.parametrize("accept", TYPES)
@pytest.mark.parametrize(("what", "status"), [("refused", 400), ("failed", 500), ("exit", 500)])
def test_an_error_before_the_first_part_has_its_status(served: Any, what: str, status: int, accept: str) -> None:
    found, kind, text = streamed(served, f"{what} at once", 1, accept)
    assert (found, kind, list(json.loads(text))) == (status, "application/json", ["error"])
    assert "secret" not in text
    assert streamed(served, "good", 1, accept)[0] == 200


def test_an_error_after_it_is_an_event(served: Any) -> None:
    for what in ("refused later", "failed later"):
        status, _, text = streamed(served, what, 1, "text/event-stream")
        assert status == 200
        last = text.split("\n\n")[-2]
        assert last.startswith('event: error\ndata: {"error":')
        assert "event: done" not in text
        assert "secret" not in text
        status, _, text = streamed(served, what, 1, "application/x-ndjson")
        assert list(json.loads(text.splitlines()[-1])) == ["error"]


def test_silence_is_filled_with_comments_where_the_form_has_them(served: Any) -> None:
    status, _, text = streamed(served, "silent", 2, "text/event-stream")
    assert status == 200
    pieces = text.split("\n\n")
    assert pieces[0] == ":"  # before the first part, too
    assert [piece for piece in pieces if piece != ":"] == [
        'data: {"part":0,"more":""}',
        'data: {"part":1,"more":""}',
        "event: done\ndata: {}",
        "",
    ]
    assert len(streamed(served, "silent", 1, "application/x-ndjson")[2].splitlines()) == 1


def test_a_model_that_gives_no_parts_says_so(iris: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", iris.port, timeout=60)
    for path, accept, wanted in (
        ("/predict?stream=true", "*/*", 406),
        ("/predict", "text/event-stream", 406),
        ("/predict", "text/event-stream, application/json", 200),
        ("/predict?stream=false", "*/*", 200),
        ("/predict?stream=perhaps", "*/*", 400),
        ("/predict?" + "a=b&" * 40 + "stream=true", "*/*", 400),
    ):
        connection.request("POST", path, b"[5.1,3.5,1.4,0.2]", {"Accept": accept})
        response = connection.getresponse()
        assert (response.status, bool(json.loads(response.read()))) == (wanted, True), (path, accept)
    connection.close()


def test_a_client_that_goes_away_frees_the_worker_at_its_next_part(served: Any) -> None:
    ended = served.app / "ended"
    for number in range(100):
        with opened(served, "slow", 100_000) as connection:  # half an hour of parts
            assert connection.recv(20)
        until(lambda: ended.exists() and len(ended.read_text()) == number + 1, "the stream goes on")  # noqa: B023
    assert gauge(served, "lightship_requests_in_flight") == 0
    assert last_part(served) < 100
    assert streamed(served, "good", 1, "text/event-stream")[0] == 200


def test_a_stream_is_no_faster_than_its_client(served: Any) -> None:
    """2 GB of parts for a client that takes none of them: they must not gather in the server."""
    with opened(served, "large", 20_000) as connection:
        assert connection.recv(20)
        time.sleep(2)
        held = gauge_of_front(served)
        assert held < 200 << 20, held
        stopped_at = last_part(served)
        assert stopped_at < 2_000
        for _ in range(200):
            connection.recv(1 << 20)
        until(lambda: last_part(served) > stopped_at, "it does not go on")
    until((served.app / "ended").exists, "the stream goes on")
    assert streamed(served, "good", 1, "text/event-stream")[0] == 200


def gauge_of_front(server: Any) -> float:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    return next(
        float(line.split()[-1]) for line in lines if line.startswith('lightship_memory_bytes{process="front"')
    )


def test_a_stream_is_finished_after_sigterm(served: Any) -> None:
    with opened(served, "gate", 2) as connection:
        received = connection.recv(1000)
        served.process.send_signal(signal.SIGTERM)
        served.wait_for("draining")
        time.sleep(1)  # longer than it lingers
        (served.app / "go").touch()
        while data := connection.recv(1000):
            received += data
    assert b"event: done" in received
    assert received.endswith(b"\r\n0\r\n\r\n")
    assert served.process.wait(60) == 0
