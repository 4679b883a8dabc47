"""Throughput and latency of a closed loop: 32 connections, and one, that ask again as soon as they are answered.

Bodies differ from one request to the next, and every answer is compared with what the library itself answers to it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.serve.contestants import Contestant, Place
from bench.serve.load import Generator, Outcome
from bench.serve.models import Model
from bench.serve.server import Server

CONNECTIONS = 32
_WARM_UP = 2  # seconds


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds: requests per second and seconds at 32 connections, and the latency at one."""

    rate: float
    p50: float
    p99: float
    alone_p50: float
    alone_p99: float


def _load(generator: Generator, server: Server, connections: int, seconds: float) -> Outcome:
    """Load a server with connections that ask again at once; a wrong answer ends the benchmark."""
    found = generator.run(server.port, rate=None, seconds=seconds, connections=connections)
    if not found.clean or found.refused or not found.accepted:
        raise SystemExit(f"{server.process.args!r}: not every answer was right: {found}")
    return found


def measure(
    contestants: Sequence[Contestant], model: Model, place: Place, *, rounds: int, seconds: float
) -> dict[str, Figures]:
    """Each server is started anew in each round, alone, in an order that alternates."""
    many: dict[str, list[Outcome]] = {contestant.name: [] for contestant in contestants}
    one: dict[str, list[Outcome]] = {contestant.name: [] for contestant in contestants}
    for turn in range(rounds):
        for contestant in contestants[:: -1 if turn % 2 else 1]:
            with contestant.run(model, place) as server:
                server.wait()
                generator = Generator(place.fresh("generator"), server.questions)
                _load(generator, server, CONNECTIONS, _WARM_UP)
                many[contestant.name].append(_load(generator, server, CONNECTIONS, seconds))
                one[contestant.name].append(_load(generator, server, 1, seconds))
    return {name: _figures(many[name], one[name]) for name in many}


def _figures(many: Sequence[Outcome], one: Sequence[Outcome]) -> Figures:
    return Figures(
        rate=statistics.median(load.accepted / load.seconds for load in many),
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
