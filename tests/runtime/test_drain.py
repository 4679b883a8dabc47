"""Stopping: no request that was accepted is lost, and the process ends well."""

import http.client
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

ROW = json.dumps([5.1, 3.5, 1.4, 0.2]).encode()
HEADERS = {"Content-Type": "application/json"}


class Client(threading.Thread):
    """Asks without a pause until the server refuses connections; counts answers and losses.

    A loss is a connection that was accepted and then ended without the whole answer to a request sent on it.
    """

    def __init__(self, port: int, *, keep: bool) -> None:
        super().__init__(daemon=True)
        self.port, self.keep = port, keep
        self.answers, self.losses = 0, []
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while True:
            try:
                connection.connect() if connection.sock is None else None
            except ConnectionRefusedError:
                return  # never accepted: the client knows, and a load balancer goes elsewhere
            except OSError as error:
                self.losses.append(f"connect: {error!r}")
                return
            try:
                connection.request("POST", "/predict", ROW, HEADERS)
                response = connection.getresponse()
                assert json.loads(response.read()) == {"predictions": ["setosa"]}
                self.answers += 1
            except Exception as error:
                self.losses.append(repr(error))
                connection.close()
            if not self.keep:
                connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_loses_no_accepted_request(
    start: Any, iris_app: Path, iris_config: dict[str, Any], number: int
) -> None:
    server = start(iris_app, iris_config).ready()
    clients = [Client(server.port, keep=keep) for keep in (True, False) * 3]
    deadline = time.monotonic() + 60
    while min(client.answers for client in clients) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.stop(number) == 0
    for client in clients:
        client.join(60)
    assert [client.losses for client in clients] == [[]] * 6
    assert min(client.answers for client in clients) >= 20
    assert server.wait_for("stopped")["unfinished"] == 0


def test_a_slow_prediction_is_finished_and_health_says_draining(start: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import time, pathlib\n"
        "def predict(instances):\n"
        "    pathlib.Path('running').touch()\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
        "    return instances\n"
    )
    model = {"path": "model.py", "format": "python", "engine": "python"}
    server = start(tmp_path, {"model": model, "linger": 600}).ready()
    slow = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    slow.request("POST", "/predict", b"[1]", HEADERS)
    while not (tmp_path / "running").exists():
        time.sleep(0.02)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining")
    assert server.ask("GET", "/health") == (503, {"status": "draining"})
    assert server.ask("GET", "/livez")[0] == 200
    (tmp_path / "go").touch()
    response = slow.getresponse()
    assert (response.status, response.getheader("connection")) == (200, "close")
    assert json.loads(response.read()) == {"predictions": [[1]]}
    slow.close()
    server.process.send_signal(signal.SIGTERM)  # the second one: no more waiting
    assert server.process.wait(60) == 0


@pytest.mark.parametrize("kind", ["model", "application"])
def test_it_lingers_in_full_though_no_connection_is_open(start: Any, tmp_path: Path, kind: str) -> None:
    (tmp_path / "model.py").write_text("def predict(instances): return instances\n")
    (tmp_path / "web.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'[1]']\n"
    )
    model = {"path": "model.py", "format": "python", "engine": "python"}
    config = {"model": model} if kind == "model" else {"app": "web:app"}
    server = start(tmp_path, {**config, "linger": 3}).ready()
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining")
    time.sleep(0.2)  # as a balancer that has not asked for readiness since
    late = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    late.request("POST", "/predict", b"[1]", HEADERS)
    response = late.getresponse()
    assert (response.status, response.getheader("connection")) == (200, "close")
    late.close()
    assert server.process.wait(60) == 0
    assert time.monotonic() - began >= 3


def test_a_prediction_that_never_ends_is_given_up_after_the_grace(start: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import time, pathlib\n"
        "def predict(instances):\n"
        "    pathlib.Path('running').touch()\n"
        "    while True: time.sleep(1)\n"
    )
    model = {"path": "model.py", "format": "python", "engine": "python"}
    server = start(tmp_path, {"model": model, "linger": 0, "grace": 1}).ready()
    with socket.create_connection(("127.0.0.1", server.port)) as hung:
        hung.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n[1]")
        while not (tmp_path / "running").exists():
            time.sleep(0.02)
        assert server.stop() == 0


def test_idle_connections_do_not_delay_the_end(start: Any, iris_app: Path, iris_config: dict[str, Any]) -> None:
    server = start(iris_app, {**iris_config, "linger": 0}).ready()
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        assert server.stop() == 0
        assert idle.recv(1) == b""


def test_a_signal_while_the_model_loads_ends_the_process_well(start: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import time, pathlib\n"
        "def load():\n"
        "    pathlib.Path('loading').touch()\n"
        "    time.sleep(600)\n"
        "def predict(model, instances): return instances\n"
    )
    server = start(tmp_path, {"model": {"path": "model.py", "format": "python", "engine": "python"}})
    server.wait_for("starting")
    while not (tmp_path / "loading").exists():
        time.sleep(0.02)
    assert server.stop() == 0


@pytest.mark.slow
def test_a_hundred_stops_under_load_lose_nothing(start: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def predict(instances): return ['setosa' for _ in instances]\n")
    for _ in range(100):
        server = start(tmp_path, {"model": {"path": "model.py", "format": "python", "engine": "python"}}).ready()
        clients = [Client(server.port, keep=keep) for keep in (True, False) * 3]
        while min(client.answers for client in clients) < 10:
            time.sleep(0.02)
        assert server.stop() == 0
        for client in clients:
            client.join(60)
        assert [client.losses for client in clients] == [[]] * 6
