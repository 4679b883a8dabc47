"""Processes that end in every way while requests come: every accepted one is answered, and the server goes on."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from runtime_servers import Runtime, family
from test_drain import Client
from test_fuzz import gauge

ROW = b"[5.1,3.5,1.4,0.2]"
MODEL = """
import os, signal, sys, time
def load(): return "setosa"
def predict(model, instances):
    time.sleep(0.002)
    for one in instances:
        if one == "exit": sys.exit(0)
        if one == "leave": os._exit(0)
        if one == "segv": os.kill(os.getpid(), signal.SIGSEGV)
    return [model for _ in instances]
"""
CONFIG = {"model": {"path": "model.py", "format": "python", "engine": "python"}}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


class Asker(threading.Thread):
    """Asks over a kept connection until told to stop; every request must have a whole answer."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.statuses: list[int] = []
        self.losses: list[str] = []
        self.over = False
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.over:
            try:
                connection.request("POST", "/predict", ROW, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = json.loads(response.read())
                assert response.status in (200, 503), response.status
                assert response.status == 503 or content == {"predictions": ["setosa"]}, content
                assert response.status == 200 or response.getheader("retry-after")
                self.statuses.append(response.status)
            except Exception as error:
                self.losses.append(repr(error))
                connection.close()
        connection.close()


@contextlib.contextmanager
def load(server: Runtime, clients: int = 6) -> Any:
    askers = [Asker(server.port) for _ in range(clients)]
    until(lambda: min(len(asker.statuses) for asker in askers) >= 5)
    yield askers
    for asker in askers:
        asker.over = True
        asker.join(60)
    assert [asker.losses for asker in askers] == [[]] * clients


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def healthy(server: Runtime) -> bool:
    return bool(server.ask("GET", "/health")[0] == 200)


def workers(server: Runtime) -> list[int]:
    """The processes that predict, as /metrics names them."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return [int(line.split('pid="')[1].split('"')[0]) for line in lines if 'process="worker"' in line]


def replaced(server: Runtime, gone: int, count: int) -> bool:
    now = workers(server)
    return healthy(server) and gone not in now and len(now) == count


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("share", [True, False])
def test_a_worker_killed_under_load_loses_no_request(start: Any, app: Path, number: int, share: bool) -> None:
    server = start(app, {**CONFIG, "workers": 2, "share": share}).ready()
    with load(server) as askers:
        for _ in range(3):
            victim = workers(server)[0]
            os.kill(victim, number)
            until(lambda: replaced(server, victim, 2))  # noqa: B023
        before = [len(asker.statuses) for asker in askers]
        until(lambda: all(len(asker.statuses) > count + 5 for asker, count in zip(askers, before, strict=True)))
    assert server.wait_for("worker is replaced")["ended"] == f"signal {int(number)}"
    assert gauge(server, "lightship_requests_in_flight") == 0
    assert server.stop() == 0


@pytest.mark.parametrize("workers_", [1, 2])
def test_the_process_that_loaded_killed_under_load_is_replaced(start: Any, app: Path, workers_: int) -> None:
    server = start(app, {**CONFIG, "workers": workers_, "share": workers_ > 1}).ready()
    front, host = sorted(children(server.process.pid), key=lambda pid: pid != listening(server))
    with load(server) as askers:
        os.kill(host, signal.SIGKILL)
        server.wait_for("process with the model is replaced")
        until(lambda: healthy(server) and host not in family(server.process.pid))
        until(lambda: len(workers(server)) == workers_)
        before = [len(asker.statuses) for asker in askers]
        until(lambda: all(len(asker.statuses) > count + 5 for asker, count in zip(askers, before, strict=True)))
    assert front in family(server.process.pid)
    assert server.stop() == 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def listening(server: Runtime) -> int:
    """The process that has the most sockets: the one with the connections."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(b"GET ")
        time.sleep(0.2)
        return max(children(server.process.pid), key=lambda pid: len(list(Path(f"/proc/{pid}/fd").iterdir())))


@pytest.mark.parametrize("workers_", [1, 2])
def test_a_models_own_exit_is_one_failed_request(start: Any, app: Path, workers_: int) -> None:
    server = start(app, {**CONFIG, "workers": workers_}).ready()
    before = workers(server)
    assert server.predict(["exit"]) == (500, {"error": "The model failed on this request."})
    assert server.predict(["fine"]) == (200, {"predictions": ["setosa"]})
    assert workers(server) == before


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("workers_", [1, 2])
@pytest.mark.parametrize("what", ["leave", "segv"])
def test_a_model_that_ends_its_process_has_it_replaced(
    start: Any, app: Path, what: str, workers_: int, share: bool
) -> None:
    server = start(app, {**CONFIG, "workers": workers_, "share": share, "batch": 1}).ready()
    assert server.predict([what])[0] == 503
    until(lambda: healthy(server) and len(workers(server)) == workers_)
    assert server.predict(["fine"]) == (200, {"predictions": ["setosa"]})
    assert server.stop() == 0


def test_several_workers_finish_what_they_have_after_sigterm(start: Any, app: Path) -> None:
    (app / "model.py").write_text(
        "import os, time, pathlib\n"
        "def predict(instances):\n"
        "    pathlib.Path(f'running-{os.getpid()}').touch()\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
        "    return instances\n"
    )
    server = start(app, {**CONFIG, "workers": 3, "batch": 1, "share": True}).ready()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(server.predict([1]))) for _ in range(9)]
    for thread in threads:
        thread.start()
    until(lambda: len(list(app.glob("running-*"))) == 3)
    until(lambda: gauge(server, "lightship_requests_in_flight") == 9)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining")
    time.sleep(1)  # longer than it lingers
    (app / "go").touch()
    for thread in threads:
        thread.join(60)
    assert answers == [(200, {"predictions": [[1]]})] * 9
    assert server.process.wait(60) == 0


def test_what_waits_is_answered_when_nobody_is_left_to_predict(start: Any, app: Path) -> None:
    (app / "model.py").write_text("import time\ndef predict(instances): time.sleep(600)\n")
    server = start(app, {**CONFIG, "batch": 1}).ready()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(server.predict([1]))) for _ in range(6)]
    for thread in threads:
        thread.start()
    until(lambda: gauge(server, "lightship_requests_in_flight") == 6)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining")
    os.kill(workers(server)[0], signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    assert [status for status, _ in answers] == [503] * 6
    assert server.process.wait(60) == 0


class Balanced(Client):
    """Asks whichever of two servers takes the connection, as behind a load balancer."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.over = False
        super().__init__(ports[0], keep=True)

    def run(self) -> None:
        while not self.over:
            for port in list(self.ports):  # one that refuses is left for the other one
                self._ask_until_closed(port)

    def _ask_until_closed(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.connect()
        except ConnectionRefusedError:
            return
        try:
            while not self.over and connection.sock is not None:
                connection.request("POST", "/predict", ROW, {"Content-Type": "application/json"})
                response = connection.getresponse()
                assert (response.status, json.loads(response.read())) == (200, {"predictions": ["setosa"]})
                self.answers += 1
        except Exception as error:
            self.losses.append(repr(error))
        finally:
            connection.close()


def roll(start: Any, app: Path, restarts: int) -> None:
    """Restart two servers by turns while clients ask."""
    folders = [app / "one", app / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "model.py").write_text(MODEL)
    servers = [start(folder, CONFIG).ready() for folder in folders]
    ports = [server.port for server in servers]
    clients = [Balanced(ports) for _ in range(4)]
    for number in range(restarts):
        asked = sum(client.answers for client in clients)
        turn = number % 2
        successor = start(folders[turn], CONFIG)
        successor.ready()
        ports[turn] = successor.port
        assert servers[turn].stop() == 0, [str(one) for one in servers[turn].events[-6:]]
        servers[turn] = successor
        until(lambda: sum(client.answers for client in clients) > asked + 20)  # noqa: B023
    for client in clients:
        client.over = True
        client.join(60)
    assert [client.losses for client in clients] == [[]] * 4
    assert min(client.answers for client in clients) > restarts
    print(f"{restarts} restarts, {sum(client.answers for client in clients)} answers, none lost")


def test_four_rolling_restarts_under_load_lose_nothing(start: Any, app: Path) -> None:
    roll(start, app, 4)


@pytest.mark.slow
def test_two_hundred_rolling_restarts_under_load_lose_nothing(start: Any, app: Path) -> None:
    roll(start, app, 200)
