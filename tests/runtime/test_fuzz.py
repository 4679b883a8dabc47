"""Servers under fire: requests of every kind, whole, mutated, broken, slow and abandoned, from a seed."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fuzz_client import Fuzzer
from fuzz_requests import CANARY
from runtime_servers import Runtime, family

CLIENTS = 4  # per server, at once
SETTLE = 30  # seconds in which what was used must be given back
GROWTH = 24 << 20  # bytes that a process may have grown since it was warm: allocators keep some
IMPORTS = 50 << 20  # beside them after few inputs: a worker may meet the first body that needs a library late
LIMITS = {"head_timeout": 1, "body_timeout": 1, "body_limit": 200_000, "access_log": "all"}
ECHO = """
kind = "any"
def predict(instance):
    if isinstance(instance, str) and len(instance) > 200: raise ValueError("refused " + instance)
    yield type(instance).__name__
    yield str(instance)[:100]
"""


def shape(server: Runtime) -> dict[int, tuple[int, int]]:
    """Of each process of a server: open files, and bytes of memory that are its own."""
    found = {}
    for pid in family(server.process.pid):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))
        found[pid] = (len(list(Path(f"/proc/{pid}/fd").iterdir())), own)
    return found


def gauge(server: Runtime, name: str) -> float:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + " "))


def fire(servers: list[tuple[Runtime, str]], inputs: int, seed: int) -> tuple[Counter[int], int, list[str]]:
    """Send that many inputs to each server; statuses, how many were sent, findings."""
    fuzzers = [
        Fuzzer(server.port, name, seed + number, inputs // CLIENTS)
        for server, name in servers
        for number in range(CLIENTS)
    ]
    for fuzzer in fuzzers:
        fuzzer.join()
    statuses: Counter[int] = Counter()
    for fuzzer in fuzzers:
        statuses += fuzzer.statuses
    return statuses, sum(fuzzer.sent for fuzzer in fuzzers), [one for fuzzer in fuzzers for one in fuzzer.findings]


def settled(server: Runtime, files: dict[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """What the server holds once it holds no more files than before, or when that took too long."""
    deadline = time.monotonic() + SETTLE
    while True:
        now = shape(server)
        if all(now[pid][0] <= files.get(pid, (0, 0))[0] for pid in now) or time.monotonic() > deadline:
            return now
        time.sleep(0.2)


def check(
    start: Any, iris_app: Path, iris_config: dict[str, Any], app: Path, inputs: int, seed: int, growth: int
) -> None:
    (app / "model.py").write_text(ECHO)
    echo = {"model": {"path": "model.py", "format": "python", "engine": "python"}, "name": "echo", "workers": 2}
    iris = start(iris_app, {**iris_config, **LIMITS, "name": "iris"}).ready()
    servers = [(iris, "iris"), (start(app, {**echo, **LIMITS}).ready(), "echo")]
    began = time.monotonic()
    statuses, sent, findings = fire(
        servers, max(1000, inputs // 10) // 2, seed
    )  # every import and every pool is there
    time.sleep(2)
    before = [shape(server) for server, _ in servers]
    more, also, others = fire(servers, (inputs - sent) // 2 + CLIENTS, seed + 1000)
    findings += others
    statuses += more
    seconds = time.monotonic() - began
    print(f"{sent + also} inputs in {seconds:.0f} s, {len(findings)} findings; {dict(sorted(statuses.items()))}")
    assert not findings, "\n".join(findings[:20])
    for (server, name), was in zip(servers, before, strict=True):
        now = settled(server, was)
        assert now.keys() == was.keys(), f"{name}: a process was replaced"
        for pid, (files, memory) in now.items():
            assert files <= was[pid][0], f"{name}: {files} open files, {was[pid][0]} before"
            assert memory - was[pid][1] < growth, f"{name}: {memory - was[pid][1]} bytes more"
        assert gauge(server, "lightship_requests_waiting") == gauge(server, "lightship_requests_in_flight") == 0
        for event in server.events:
            assert event["event"] not in ("no JSON", "log", "worker ended", "worker stuck"), event
            assert CANARY not in json.dumps(event), event
        print(f"{name}: " + ", ".join(f"{now[pid][1] - was[pid][1]:+d} B" for pid in now))
    assert iris.predict([5.1, 3.5, 1.4, 0.2]) == (200, {"predictions": ["setosa"]})
    assert statuses[200] > inputs // 10  # else little would have been tried beyond the first check


def test_three_thousand_inputs_find_nothing(
    start: Any, iris_app: Path, iris_config: dict[str, Any], tmp_path: Path
) -> None:
    check(start, iris_app, iris_config, tmp_path, 3_000, seed=1, growth=GROWTH + IMPORTS)


@pytest.mark.slow
def test_a_hundred_thousand_inputs_find_nothing(
    start: Any, iris_app: Path, iris_config: dict[str, Any], tmp_path: Path
) -> None:
    check(start, iris_app, iris_config, tmp_path, 100_000, seed=86753, growth=GROWTH)
