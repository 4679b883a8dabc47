"""Cold start: from the process's start to its first correct answer; files in the page cache, bytecode compiled."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.serve.contestants import Contestant, Place
from bench.serve.models import Model


@dataclass(frozen=True)
class Entry:
    """A server with the model that it starts with."""

    title: str
    contestant: Contestant
    model: Model


def measure(entries: Sequence[Entry], place: Place, *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each start, after one that is not counted and warms the page cache."""
    found: dict[str, list[float]] = {entry.title: [] for entry in entries}
    for turn in range(rounds + 1):
        for entry in entries[:: -1 if turn % 2 else 1]:
            with entry.contestant.run(entry.model, place) as server:
                seconds = server.wait()
            if turn:
                found[entry.title].append(seconds)
    return found


def show(found: dict[str, list[float]]) -> None:
    """One line for each, with the part of FastAPI's time that it takes."""
    print("\ncold start, from the process's start to the first correct answer")
    textbook = statistics.median(found["fastapi"]) if "fastapi" in found else None
    for title, times in found.items():
        median = statistics.median(times)
        line = f"  {title:16} {median:6.2f} s   ({min(times):.2f} to {max(times):.2f})"
        if textbook:
            line += f"   {median / textbook:.2f} of FastAPI's"
        if textbook and title.startswith("lightship"):
            line += f" (bar: {0.12 if 'onnx' in title else 0.5})"
        print(line, flush=True)
