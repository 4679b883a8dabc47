"""Clients that go away in the middle of a text, with the real engine and a whole server: nothing is left of them."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("torch")
pytest.importorskip("onnxruntime_genai")
pytest.importorskip("jinja2")
import tiny_language as tiny
from runtime_servers import Runtime, family

PATIENCE = 60  # seconds
TOGETHER = 10  # clients: more than there are slots, so that some go away while they wait for one
GROWTH = 6 << 20  # bytes: 100 caches of the tiny model take 13 MB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    app = tmp_path_factory.mktemp("app")
    tiny.converted(tiny.language_model(tmp_path_factory.mktemp("models") / "tiny"), app / "model")
    model = {"path": "model", "format": "onnx-genai", "engine": "onnxruntime-genai"}
    runtime = Runtime(app, {"model": model, "threads": 1}, {})
    try:
        yield runtime.ready()
    finally:
        runtime.close()


def metric(server: Runtime, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=PATIENCE) as response:
        told = response.read().decode()
    found = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", told, re.MULTILINE)
    assert found, f"no {name} in\n{told}"
    return float(found[1])


def until(holds: Callable[[], bool], otherwise: str) -> None:
    ends = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends, otherwise
        time.sleep(0.02)


def request(number: int) -> bytes:
    # Every third one is written by a Generator, as texts with a seed are; the others share Engines.
    seeded = {"seed": number} if number % 3 == 0 else {}
    messages = [{"role": "user", "content": f"Once upon a time {number}"}]
    asked = {"messages": messages, "temperature": 1.0, "max_tokens": 400, "stream": True, **seeded}
    body = json.dumps(asked).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def abandon(server: Runtime, number: int) -> bool:
    """Ask for a long text, go away when it has begun; whether it had not ended by itself."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(request(number))
        received = b""
        while received.count(b"data: ") < 2 + number % 3 and b"[DONE]" not in received:
            piece = connection.recv(1 << 12)
            assert piece, f"the server closed: {received!r}"
            received += piece
        assert received.startswith(b"HTTP/1.1 200")
        return b"[DONE]" not in received


def hundred_go_away(server: Runtime) -> None:
    with ThreadPoolExecutor(TOGETHER) as clients:
        in_the_middle = sum(clients.map(lambda number: abandon(server, number), range(100)))
    assert in_the_middle > 50, "too many had ended by themselves"
    until(lambda: metric(server, "lightship_requests_in_flight") == 0, "a text still has its place")


def worker_memory(server: Runtime) -> int:
    """Bytes that are the worker's alone: it is the largest of the server's processes."""
    sizes = []
    for pid in family(server.process.pid):
        found = re.search(r"^Private_Dirty:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        assert found
        sizes.append(int(found[1]) * 1024)
    return max(sizes)


def test_clients_that_go_away_in_the_middle_leave_neither_slots_nor_memory(server: Runtime) -> None:
    hundred_go_away(server)  # what is taken once and kept is taken now
    before, written = worker_memory(server), metric(server, "lightship_generation_tokens_total")
    hundred_go_away(server)
    assert worker_memory(server) - before < GROWTH
    # Nobody's text was written to its end for nobody.
    assert metric(server, "lightship_generation_tokens_total") - written < 100 * 200
    status, answer = server.ask(
        "POST",
        "/v1/completions",
        json.dumps({"prompt": "A", "max_tokens": 3, "temperature": 0}).encode(),
    )
    assert (status, answer["usage"]["prompt_tokens"]) == (200, 1)
