"""Eight streams at once: how many tokens per second there are in all, and how long the first of each takes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.llm.client import Ask, Heard, run
from bench.llm.coldstart import ready
from bench.llm.contestants import Contestant, Setting

STREAMS = 8
_BAR = 2.5  # times the textbook server's tokens per second
_SUBJECTS = ("fox", "whale", "baker", "pilot", "gardener", "robot", "sailor", "painter")
_LENGTHS = (0.5, 1.0, 1.5, 0.25)  # of the tokens that are asked for, where the streams differ
_STAGGER = 0.1  # seconds between the first requests of two streams that do not begin together


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds: tokens per second of all streams, seconds to the first token.

    `failed`: requests of all rounds that were not answered with a stream.
    """

    rate: float
    first_p50: float
    first_p99: float
    failed: int


def measure(
    contestants: Sequence[Contestant], setting: Setting, *, rounds: int, requests: int, tokens: int, alike: bool
) -> dict[str, Figures]:
    """Each server is started anew in each round, alone, in an order that alternates.

    With `alike` all streams begin together and are of one length, the best case for static batches; else they begin
    one after the other and have different lengths.
    """
    loads: dict[str, list[tuple[list[Heard], list[str]]]] = {contestant.name: [] for contestant in contestants}
    for turn in range(rounds):
        for contestant in contestants[:: -1 if turn % 2 else 1]:
            with contestant.run(setting) as server:
                ready(server, contestant.ask(setting, "Hello", 8))
                streams = [_stream(contestant, setting, place, requests, tokens, alike) for place in range(STREAMS)]
                loads[contestant.name].append(run(server.port, streams))
    return {name: _figures(load) for name, load in loads.items()}


def show(title: str, figures: dict[str, Figures], weights: dict[str, str]) -> None:
    """One line for each server, and what is held against the bars."""
    print(f"\n{STREAMS} streams, {title}")
    for name, found in figures.items():
        print(
            f"  {name:22} {weights[name]:18} {found.rate:7.1f} tokens/s   first token p50 "
            f"{found.first_p50 * 1e3:8.0f} ms"
            f"   p99 {found.first_p99 * 1e3:8.0f} ms{f'   {found.failed} FAILED' if found.failed else ''}"
        )
    textbooks = [found for name, found in figures.items() if name.startswith("textbook")]
    for name in (name for name in figures if name.startswith("lightship")):
        ours = figures[name]
        if textbooks:
            best = max(found.rate for found in textbooks)
            lowest = min(found.first_p99 for found in textbooks)
            told = "lower" if ours.first_p99 < lowest else "NOT lower"
            times = ours.rate / best
            print(f"  {name}: {times:.1f} times the better textbook server's tokens/s (bar: {_BAR}), p99 {told}")
        for peer in (peer for peer in figures if not peer.startswith(("lightship", "textbook"))):
            if _engine(weights[peer]) == _engine(weights[name]):
                print(f"  {name}: {ours.rate / figures[peer].rate:.2f} times {peer}'s tokens/s (bar: 1)", flush=True)


def _engine(weights: str) -> str:
    return weights.split(maxsplit=1)[0]


def _stream(
    contestant: Contestant, setting: Setting, place: int, requests: int, tokens: int, alike: bool
) -> list[Ask]:
    asks = []
    for turn in range(requests):
        length = 1.0 if alike else _LENGTHS[(place + turn) % len(_LENGTHS)]
        message = f"Write a story about a {_SUBJECTS[place]} and the sea, the {turn + 1}. chapter."
        asks.append(contestant.ask(setting, message, int(tokens * length)))
    if not alike:
        asks[0] = replace(asks[0], wait=place * _STAGGER)
    return asks


def _figures(loads: Sequence[tuple[Sequence[Heard], Sequence[str]]]) -> Figures:
    rates, middles, tails = [], [], []
    for load, failed in loads:
        if not load:
            raise SystemExit(f"no request was answered: {failed[0]}")
        began = min(one.sent for one in load)
        ended = max(one.sent + one.seconds for one in load)
        rates.append(sum(one.tokens for one in load) / (ended - began))
        firsts = sorted(one.first for one in load)
        middles.append(statistics.median(firsts))
        tails.append(firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))])
    failures = sum(len(failed) for _, failed in loads)
    return Figures(statistics.median(rates), statistics.median(middles), statistics.median(tails), failures)
