"""`make bench-serve`: servers side by side in one run, same model, same cores.

Parts (--only):
    throughput  requests per second and latency under load, LogisticRegression and RandomForest(100)
    cold        process start to first correct answer
    memory      a model of 1 GB with one and with four workers
    overload    three times the load that saturates ours
    restarts    rolling restarts of two instances under load

Peers come from the user's package index, pinned, each into an environment that is kept (--cache).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from bench.apps import ROOT
from bench.arguments import names_of
from bench.serve import coldstart, memory, overload, restarts, throughput
from bench.serve.contestants import PEER_SERVERS, Contestant, Lightship, Place
from bench.serve.environments import environment
from bench.serve.machine import look
from bench.serve.models import convert, train


@dataclass(frozen=True)
class Options:
    """The command line: `seconds` of each load, `rounds` of each comparison (None: the part's own number)."""

    peers: tuple[str, ...]
    rounds: int | None
    seconds: float
    workers: int | None
    megabytes: int
    restarts: int

    def ours(self, environment: str = "lightship") -> Contestant:
        """Our server, with the number of workers that was asked for."""
        settings: dict[str, object] = {} if self.workers is None else {"workers": self.workers}
        return Contestant("lightship", environment, Lightship(settings))

    def contestants(self) -> list[Contestant]:
        """Ours first, then the peers."""
        return [self.ours(), *(PEER_SERVERS[name] for name in self.peers)]


def _throughput(options: Options, place: Place) -> object:
    found = {}
    for kind, title in (("logistic", "LogisticRegression"), ("forest", "RandomForest(100)")):
        model = train(kind, place.scratch / "throughput", environment("lightship", place.cache))
        rounds = options.rounds or 5
        figures = throughput.measure(options.contestants(), model, place, rounds=rounds, seconds=options.seconds)
        throughput.show(title, figures)
        found[kind] = {name: asdict(figure) for name, figure in figures.items()}
    return found


def _cold(options: Options, place: Place) -> object:
    model = train("logistic", place.scratch / "cold", environment("lightship", place.cache))
    entries = [coldstart.Entry(contestant.name, contestant, model) for contestant in options.contestants()]
    converted = convert(model, environment("onnx", place.cache))
    entries.append(coldstart.Entry("lightship-onnx", options.ours("lightship-onnx"), converted))
    found = coldstart.measure(entries, place, rounds=options.rounds or 10)
    coldstart.show(found)
    return found


def _memory(options: Options, place: Place) -> object:
    return memory.run(place, megabytes=options.megabytes)


def _overload(options: Options, place: Place) -> object:
    return overload.run("lightship", place, seconds=options.seconds)


def _restarts(options: Options, place: Place) -> object:
    model = train("logistic", place.scratch / "restarts", environment("lightship", place.cache))
    return restarts.run(options.ours(), model, place, times=options.restarts)


PARTS: dict[str, Callable[[Options, Place], object]] = {
    "throughput": _throughput,
    "cold": _cold,
    "memory": _memory,
    "overload": _overload,
    "restarts": _restarts,
}


def main() -> None:
    """Parse, look at the machine, measure, print."""
    parser = argparse.ArgumentParser(
        prog="bench.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=names_of(PARTS), default=tuple(PARTS), help="parts, with commas")
    parser.add_argument("--peers", type=names_of(PEER_SERVERS), default=tuple(PEER_SERVERS))
    parser.add_argument("--rounds", type=int, help="5 for throughput, 10 for cold starts")
    parser.add_argument("--seconds", type=float, default=10, help="of each load; overload takes six times as long")
    parser.add_argument("--workers", type=int, help="of our server")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the large model")
    parser.add_argument("--restarts", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench-serve", help="for the environments")
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine all the same")
    parser.add_argument("--json", type=Path, help="write all figures to this file too")
    given = parser.parse_args()
    if shutil.which("cc") is None:
        raise SystemExit("there is no C compiler, which the load generator needs")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every start would compile anew
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # by way of every `with`, which ends the servers
    options = Options(given.peers, given.rounds, given.seconds, given.workers, given.megabytes, given.restarts)
    for name in ("lightship", *options.peers):
        environment(name, given.cache)
    machine = look(anyway=given.busy)
    print(f"{machine.cores} cores, {machine.idle:.0%} idle, load {' '.join(f'{load:.2f}' for load in machine.load)}")
    found: dict[str, object] = {"machine": asdict(machine)}
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as scratch:
        place = Place(given.cache.resolve(), Path(scratch))
        for name in given.only:
            found[name] = PARTS[name](options, place)
            if given.json:
                given.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    print(f"\nload at the end {' '.join(f'{load:.2f}' for load in os.getloadavg())}", file=sys.stderr)


if __name__ == "__main__":
    main()
