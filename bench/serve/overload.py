"""Overload: three times the load that saturates our server, from an open-loop generator, for a minute."""

from __future__ import annotations

import json

import msgspec

from bench.serve.contestants import Contestant, Place
from bench.serve.environments import environment
from bench.serve.models import Model, answers
from bench.serve.openloop import Generator, Outcome
from bench.serve.server import Question

TIMES = 3  # the load, in saturating loads
CONNECTIONS = 1024  # clients at once: enough for the queue to fill and 429s to come
_SATURATING = 32  # connections in the closed loop that finds the saturating load


def run(contestant: Contestant, model: Model, place: Place, *, seconds: float) -> object:
    """Find the saturating load, offer it (the reference), then offer it three times for 6 x `seconds`."""
    python = environment(contestant.environment, place.cache)
    questions = [Question("/predict", json.dumps(row), f"[{label}]") for row, label in answers(model, python)]
    generator = Generator(place.fresh("overload") / "generator", questions)
    with contestant.run(model, place) as server:
        server.wait()
        closed = generator.run(server.port, rate=None, seconds=seconds, connections=_SATURATING)
        most = closed.accepted / closed.seconds
        at = generator.run(server.port, rate=most, seconds=seconds, connections=CONNECTIONS)
        before = server.memory("Rss")
        over = generator.run(server.port, rate=TIMES * most, seconds=6 * seconds, connections=CONNECTIONS)
        after = server.memory("Rss")
    print(f"\noverload: saturated at {most:.0f} req/s, {TIMES} times that for {6 * seconds:.0f} s")
    _show("saturation", at)
    _show("overload", over)
    ratio = over.p99 / at.p99 if at.p99 else float("inf")
    print(
        f"  p99 of accepted {ratio:.1f} times that at saturation (bar: 3); memory {before / 1e6:.0f} MB before, "
        f"{after / 1e6:.0f} MB after; {'clean' if over.clean else 'NOT CLEAN'}"
        f"{'; NOT VALID: the generator ran out of connections' if over.unsent else ''}",
        flush=True,
    )
    return {
        "rate": most,
        "saturation": msgspec.to_builtins(at),
        "overload": msgspec.to_builtins(over),
        "rss": [before, after],
    }


def _show(name: str, found: Outcome) -> None:
    print(
        f"  {name:11} accepted {found.accepted:8} (p50 {found.p50 * 1e3:.1f} ms, p99 {found.p99 * 1e3:.1f} ms)   "
        f"429 {found.refused:8} (p50 {found.refused_p50 * 1e3:.1f} ms, p99 {found.refused_p99 * 1e3:.1f} ms)   "
        f"wrong {found.wrong}   broken {found.broken}   hanging {found.hanging}   "
        f"429 without Retry-After {found.without_retry_after}   never sent {found.unsent}"
    )
