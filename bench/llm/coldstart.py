"""Cold start: from the process's start to the first token over HTTP; files in the page cache, bytecode compiled."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from bench.llm.client import Ask, first_text
from bench.llm.contestants import Contestant, Setting
from bench.serve.server import PATIENCE, POLL, Server

_BAR = 0.6  # of the textbook server's time


def ready(server: Server, ask: Ask) -> float:
    """Seconds from the process's start to the first token of a stream."""
    while time.monotonic() - server.started < PATIENCE:
        if (at := first_text(server.port, ask, PATIENCE)) is not None:
            return at - server.started
        if server.process.poll() is not None:
            break
        time.sleep(POLL)
    raise SystemExit(f"{server.process.args!r} wrote no text:\n{server.said()}")


def measure(contestants: Sequence[Contestant], setting: Setting, *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each start, after one that is not counted and warms the page cache."""
    found: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for turn in range(rounds + 1):
        for contestant in contestants[:: -1 if turn % 2 else 1]:
            with contestant.run(setting) as server:
                seconds = ready(server, contestant.ask(setting, "Hello", 8))
            if turn:
                found[contestant.name].append(seconds)
    return found


def show(found: dict[str, list[float]], weights: dict[str, str]) -> None:
    """One line for each, with the part of the textbook server's time that it takes."""
    print("\ncold start, from the process's start to the first token over HTTP")
    textbook = min((statistics.median(times) for name, times in found.items() if "textbook" in name), default=None)
    for name, times in found.items():
        median = statistics.median(times)
        line = f"  {name:22} {weights[name]:18} {median:6.2f} s   ({min(times):.2f} to {max(times):.2f})"
        if textbook is not None:
            line += f"   {median / textbook:.2f} of the faster textbook server's"
            line += f" (bar: {_BAR})" if name.startswith("lightship") else ""
        print(line, flush=True)
