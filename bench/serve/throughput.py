"""Throughput and latency under wrk: at 32 connections, and at one. Every answer is checked."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.serve.contestants import Contestant, Place
from bench.serve.models import Model
from bench.serve.server import Server

CONNECTIONS = 32
_WARM_UP = 2  # seconds


class Load(msgspec.Struct, frozen=True):
    """What one run of wrk found: `wrong` answers, `broken` connections, latencies in seconds."""

    requests: int
    seconds: float
    wrong: int
    broken: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds: requests per second and seconds at 32 connections, and the latency at one."""

    rate: float
    p50: float
    p99: float
    alone_p50: float
    alone_p99: float


def wrk(server: Server, connections: int, seconds: float) -> Load:
    """Load a server with closed-loop connections; a wrong answer ends the benchmark."""
    question = server.question
    script = Path(__file__).with_name("closed.lua")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(script)]
    environ = {**os.environ, "BENCH_BODY": question.body, "BENCH_EXPECTED": question.expected}
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{question.path}"],
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = next((line[5:] for line in output.splitlines() if line.startswith("JSON ")), None)
    if found is None:
        raise SystemExit(f"wrk printed no figures:\n{output}")
    load = msgspec.json.decode(found, type=Load)
    if load.wrong or load.broken or not load.requests:
        raise SystemExit(f"{server.process.args!r}: not every answer was right: {found}")
    return load


def measure(
    contestants: Sequence[Contestant], model: Model, place: Place, *, rounds: int, seconds: float
) -> dict[str, Figures]:
    """Each server is started anew in each round, alone, in an order that alternates."""
    many: dict[str, list[Load]] = {contestant.name: [] for contestant in contestants}
    one: dict[str, list[Load]] = {contestant.name: [] for contestant in contestants}
    for turn in range(rounds):
        for contestant in contestants[:: -1 if turn % 2 else 1]:
            with contestant.run(model, place) as server:
                server.wait()
                wrk(server, CONNECTIONS, _WARM_UP)
                many[contestant.name].append(wrk(server, CONNECTIONS, seconds))
                one[contestant.name].append(wrk(server, 1, seconds))
    return {name: _figures(many[name], one[name]) for name in many}


def _figures(many: Sequence[Load], one: Sequence[Load]) -> Figures:
    return Figures(
        rate=statistics.median(load.requests / load.seconds for load in many),
        p50=statistics.median(load.p50 for load in many),
        p99=statistics.median(load.p99 for load in many),
        alone_p50=statistics.median(load.p50 for load in one),
        alone_p99=statistics.median(load.p99 for load in one),
    )


def show(title: str, figures: dict[str, Figures]) -> None:
    """One line for each server, and what is held against the bars."""
    print(f"\n{title}: {CONNECTIONS} connections, and one")
    for name, found in figures.items():
        print(
            f"  {name:16} {found.rate:9.0f} req/s   p50 {found.p50 * 1e3:8.2f} ms   p99 {found.p99 * 1e3:8.2f} ms   "
            f"alone p50 {found.alone_p50 * 1e3:7.3f} ms   p99 {found.alone_p99 * 1e3:7.3f} ms",
            flush=True,
        )
    ours = figures.get("lightship")
    peers = {name: found for name, found in figures.items() if not name.startswith("lightship")}
    if ours is None or not peers:
        return
    best = max(peers, key=lambda name: peers[name].rate)
    print(f"  lightship serves {ours.rate / peers[best].rate:.1f} times the best peer's requests ({best})", end="")
    if textbook := peers.get("fastapi"):
        print(f", {ours.rate / textbook.rate:.1f} times FastAPI's (bar: 8)", end="")
        print(f"; alone {ours.alone_p50 / textbook.alone_p50:.2f} of FastAPI's latency (bar: 0.5)", end="")
    lowest = min(found.p99 for found in peers.values())
    print(f"; p99 {'below' if ours.p99 < lowest else 'NOT below'} every peer's", flush=True)
