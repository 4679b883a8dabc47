"""HTTP as hostile and as slow clients speak it, over raw sockets to a real server."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightship_runtime.front import connection as limits

ROW = b"[5.1,3.5,1.4,0.2]"
ASK = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + ROW


@pytest.fixture
def wire(iris: Any) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", iris.port), timeout=60) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """What the server sends until it closes."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """The next answer with a Content-Length, and nothing behind it."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += (data := connection.recv(65536))
        assert data, received
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-le"))
    while len(body) < length:
        body += connection.recv(65536)
    assert len(body) == length
    return int(head.split(b" ")[1]), body


def status(received: bytes) -> int:
    return int(received.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("request_bytes", "wanted"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS where none is spoken
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n[1]", 400),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n[1]", 400),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * (1 << 20) + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: %s\r\n" % (n, b"b" * 9000) for n in range(40)), 431),
        (b"GET /x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 404),
        (b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", 400),
    ],
)
def test_what_is_not_proper_http_is_refused_and_the_connection_closed(
    iris: Any, wire: socket.socket, request_bytes: bytes, wanted: int
) -> None:
    wire.sendall(request_bytes)
    received = everything(wire)
    assert status(received) == wanted
    assert b"\r\nconnection: close\r\n" in received
    assert list(json.loads(received.partition(b"\r\n\r\n")[2])) == ["error"]
    assert iris.ask("GET", "/livez")[0] == 200


def test_requests_sent_ahead_are_answered_in_order(wire: socket.socket) -> None:
    wire.sendall(ASK + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + ASK + b"GET /x HTTP/1.0\r\n\r\n")
    received = everything(wire)
    assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [200, 200, 200, 404]
    assert received.count(b'{"predictions":["setosa"]}') == 2


def test_too_many_requests_sent_ahead_are_refused(wire: socket.socket) -> None:
    wire.sendall(ASK * (limits.PIPELINED + 10))
    received = everything(wire)
    assert status(received) == 200
    assert received.count(b"HTTP/1.1 ") < limits.PIPELINED


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_request_may_arrive_in_pieces(wire: socket.socket, size: int) -> None:
    for _ in range(2):
        for start in range(0, len(ASK), size):
            wire.sendall(ASK[start : start + size])
        assert answer(wire) == (200, b'{"predictions":["setosa"]}')


def test_a_chunked_body_is_put_together(wire: socket.socket) -> None:
    wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in (b"[5.1,3.", b"5,1.4,", b"0.2]", b""):
        wire.sendall(b"%x\r\n%s\r\n" % (len(part), part))
    assert answer(wire) == (200, b'{"predictions":["setosa"]}')


def test_a_client_that_asks_first_is_told_to_go_on(wire: socket.socket) -> None:
    wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\nExpect: 100-continue\r\n\r\n")
    assert wire.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.sendall(ROW)
    assert answer(wire)[0] == 200


def test_a_client_that_asks_first_behind_other_requests_is_told_after_their_answers(wire: socket.socket) -> None:
    asking = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\nExpect: 100-continue\r\n\r\n"
    wire.sendall(ASK + ASK + asking)
    received = b""
    while not received.endswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
        received += (data := wire.recv(65536))
        assert data, received
    assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [200, 200, 100]
    wire.sendall(ROW + asking)  # and another one, whose head comes with the body before it
    received = b""
    while not received.endswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
        received += (data := wire.recv(65536))
        assert data, received
    assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [200, 100]
    wire.sendall(ROW)
    assert answer(wire)[0] == 200


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_nobody_is_told_to_go_on_who_has_gone_on_or_does_not_know_the_word(
    wire: socket.socket, version: bytes
) -> None:
    head = b"POST /predict HTTP/%s\r\nHost: x\r\nContent-Length: 17\r\nExpect: 100-continue\r\n" % version
    wire.sendall(ASK + head + b"Connection: close\r\n\r\n" + ROW[: 1 if version == b"1.1" else 0])
    assert answer(wire)[0] == 200
    wire.sendall(ROW[1 if version == b"1.1" else 0 :])
    assert everything(wire).startswith(b"HTTP/1.1 200 ")


def test_a_body_behind_another_request_must_come_in_time(start: Any, iris_app: Path, iris_config: Any) -> None:
    server = start(iris_app, {**iris_config, "body_timeout": 0.5, "head_timeout": 0.5}).ready()
    for unfinished in (ASK[:-1], ASK[:30]):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as wire:
            wire.sendall(ASK + unfinished)
            received = everything(wire)
        assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [200, 408]


def test_head_has_the_headers_of_get_and_no_body(wire: socket.socket) -> None:
    wire.sendall(b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    received = everything(wire)
    assert b"content-length: 17\r\n" in received
    assert received.endswith(b"\r\n\r\n")


def test_a_refused_body_does_not_break_the_next_request(wire: socket.socket) -> None:
    wire.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n" + ROW)
    assert answer(wire)[0] == 404
    wire.sendall(ASK)
    assert answer(wire)[0] == 200


def test_the_answer_to_a_body_too_large_can_be_read_by_a_client_that_only_sends(wire: socket.socket) -> None:
    wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
    sender = threading.Thread(target=_send_all, args=(wire, b" " * 50_000_000), daemon=True)
    sender.start()
    received = b""
    while b"\r\n\r\n" not in received:
        received += wire.recv(1000)
    assert status(received) == 413
    wire.shutdown(socket.SHUT_RDWR)
    sender.join(60)


def _send_all(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)


def test_request_identities_come_back(wire: socket.socket) -> None:
    wire.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: abc-1\r\nConnection: close\r\n\r\n")
    assert b"\r\nx-request-id: abc-1\r\n" in everything(wire)


def test_a_url_in_absolute_form_is_understood(wire: socket.socket) -> None:
    wire.sendall(b"GET http://x:8080/livez?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status(everything(wire)) == 200


def test_slow_heads_bodies_and_readers_are_given_up(start: Any, iris_app: Path, iris_config: dict[str, Any]) -> None:
    server = start(iris_app, {**iris_config, "body_timeout": 1, "head_timeout": 1}).ready()
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, 60) as head, socket.create_connection(address, 60) as body:
        head.sendall(b"POST /predict HTTP/1.1\r\nA: ")
        body.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n[")
        for _ in range(40):  # a trickle keeps neither alive
            time.sleep(0.1)
            for one in (head, body):
                try:
                    one.sendall(b"1")
                except OSError:
                    continue
        assert status(everything(head)) == 408
        assert status(everything(body)) == 408
    assert server.predict([5.1, 3.5, 1.4, 0.2])[0] == 200


def test_many_idle_connections_do_not_keep_others_out(iris: Any) -> None:
    idle = [socket.create_connection(("127.0.0.1", iris.port), 60) for _ in range(300)]
    try:
        assert iris.predict([5.1, 3.5, 1.4, 0.2])[0] == 200
    finally:
        for one in idle:
            one.close()
