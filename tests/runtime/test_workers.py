"""Workers: shared memory, replacement, crashes, hangs, batches; with real processes."""

import http.client
import json
import os
import re
import signal
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from runtime_servers import family

PID = """
import os, time
def load(): return [os.getpid()]
def predict(model, instances):
    if instances[0] == "die": os.kill(os.getpid(), 9)
    if instances[0] == "sleep": time.sleep(3600)
    if "bad" in instances: raise ValueError("this one")
    if instances[0] == "wait": time.sleep(0.3)
    if instances[0] == "short": time.sleep(0.02)
    if instances[0] == "until": open("begun", "w").close()
    while instances[0] == "until" and not os.path.exists("go"): time.sleep(0.02)
    return [[model[0], os.getpid(), len(instances)] for _ in instances]
"""
MODEL = {"path": "model.py", "format": "python", "engine": "python"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(PID)
    return tmp_path


def ask(server: Any, value: Any, answers: list[Any]) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.append(server.predict(value)), daemon=True)
    thread.start()
    return thread


def test_several_workers_share_one_model(start: Any, app: Path) -> None:
    server = start(app, {"model": MODEL, "workers": 3, "batch": 1, "share": True}).ready()
    answers: list[Any] = []
    threads = [ask(server, ["wait"], answers) for _ in range(12)]
    for thread in threads:
        thread.join(60)
    loaders = {content["predictions"][0][0] for _, content in answers}
    workers = {content["predictions"][0][1] for _, content in answers}
    assert len(loaders) == 1
    assert len(workers) == 3
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as response:
        counts = re.findall(r'^lightship_worker_batches_total{pid="(\d+)"} (\d+)$', response.read().decode(), re.M)
    batches = {int(pid): int(count) for pid, count in counts}
    assert batches.keys() == workers
    assert sum(batches.values()) == 12
    assert len([event for event in server.events if event["event"] == "load"]) == 1


def test_a_worker_that_dies_is_replaced_and_its_requests_are_answered(start: Any, app: Path) -> None:
    server = start(app, {"model": MODEL, "share": True}).ready()
    assert server.predict(["die"]) == (503, {"error": "The process with the model ended. Try again."})
    deadline = time.monotonic() + 60
    while server.ask("GET", "/health")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.predict(["fine"])[0] == 200
    assert server.wait_for("worker is replaced")["ended"] == "signal 9"
    assert len([event for event in server.events if event["event"] == "load"]) == 1  # a fork, not another load


@pytest.mark.parametrize("share", [True, False])
def test_workers_that_keep_dying_end_the_server_with_a_reason(start: Any, app: Path, share: bool) -> None:
    server = start(app, {"model": MODEL, "share": share}).ready()
    deadline = time.monotonic() + 60
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            server.predict(["die"])
        except (OSError, http.client.HTTPException):
            break
        time.sleep(0.02)
    code, failed = server.failure()
    assert code == 7
    assert "signal 9" in failed["message"]
    assert "memory" in failed["hint"]


def test_a_request_that_takes_too_long_is_answered_with_504(start: Any, app: Path) -> None:
    server = start(app, {"model": MODEL, "timeout": 0.5, "workers": 2, "batch": 1}).ready()
    began = time.monotonic()
    assert server.predict(["sleep"]) == (504, {"error": "The answer took too long."})
    assert time.monotonic() - began < 30
    assert server.predict(["fine"])[0] == 200  # by the other one


@pytest.mark.parametrize("batch", [1, 2])
def test_nobody_waits_behind_a_slow_call_while_another_worker_is_idle(start: Any, app: Path, batch: int) -> None:
    server = start(app, {"model": MODEL, "timeout": 20, "workers": 2, "batch": batch}).ready()
    slow: list[Any] = []
    first = ask(server, ["until"], slow)
    while not (app / "begun").exists():
        time.sleep(0.02)
    answers: list[Any] = []
    for _ in range(4):
        threads = [ask(server, ["short"], answers) for _ in range(8)]
        for thread in threads:
            thread.join(60)
    assert [status for status, _ in answers] == [200] * 32
    assert len({content["predictions"][0][1] for _, content in answers}) == 1  # all by the other one
    assert not slow
    (app / "go").touch()
    first.join(60)
    assert slow[0][0] == 200


def test_requests_that_wait_are_predicted_together_and_each_gets_its_own(start: Any, app: Path) -> None:
    server = start(app, {"model": MODEL}).ready()
    answers: list[Any] = []
    first = ask(server, ["wait"], answers)
    time.sleep(0.1)
    threads = [ask(server, ["x"] * number, answers) for number in (1, 2, 3)] + [ask(server, ["bad"], answers)]
    for thread in [first, *threads]:
        thread.join(60)
    assert sorted(status for status, _ in answers) == [200, 200, 200, 200, 400]
    assert sorted(len(content["predictions"]) for status, content in answers if status == 200) == [1, 1, 2, 3]


def test_batches_are_made_only_of_what_waits(start: Any, app: Path) -> None:
    server = start(app, {"model": MODEL}).ready()
    answers: list[Any] = []
    first = ask(server, ["wait"], answers)
    time.sleep(0.1)
    threads = [ask(server, ["x"], answers) for _ in range(5)]
    for thread in [first, *threads]:
        thread.join(60)
    sizes = sorted(content["predictions"][0][2] for _, content in answers)
    assert sizes[0] == 1
    assert sizes[-1] == 5


def test_a_client_that_goes_away_gives_its_place_in_the_queue_back(start: Any, app: Path) -> None:
    server = start(app, {"model": MODEL, "queue": 1, "batch": 1}).ready()
    answers: list[Any] = []
    first = ask(server, ["wait"], answers)
    time.sleep(0.05)
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/predict", json.dumps(["x"]).encode(), {"Content-Type": "application/json"})
        connection.close()
        time.sleep(0.02)
    assert server.predict(["x"])[0] == 200
    first.join(60)
    assert answers[0][0] == 200


def test_no_process_is_left_when_the_first_one_is_killed(start: Any, app: Path) -> None:
    server = start(app, {"model": MODEL, "workers": 2}).ready()
    children = family(server.process.pid)
    assert len(children) >= 4  # the one that listens, the one that loaded, two workers
    os.kill(server.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
