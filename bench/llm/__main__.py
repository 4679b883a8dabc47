"""`make bench-llm`: a small chat model behind our server and others, side by side in one run, on the same cores.

Parts (--only):
    single      one stream: our server beside its engine called directly
    concurrent  eight streams, which begin together and are of one length; and eight that are not
    cold        process start to first token

Our server runs on ONNX Runtime GenAI with 4 bits per weight (lightship) and with 32 (lightship-fp32), on transformers
(lightship-transformers), and on llama.cpp (lightship-gguf). The peers are the textbook server, on transformers, and
the engines' own servers: `transformers serve`, without and with continuous batching; llama-cpp-python's; and the one
that is inside llama.cpp (llama-server). ONNX Runtime GenAI has none.

Peers come from the user's package index, pinned, each into an environment that is kept, as are the converted models
(--cache). llama-cpp-python has no wheels: it is built once, which needs a C++ compiler and minutes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from bench.apps import ROOT
from bench.arguments import names_of
from bench.llm import coldstart, concurrent, single
from bench.llm.contestants import OURS, PEER_SERVERS, PEERS, Contestant, Setting
from bench.llm.models import prepare
from bench.serve.contestants import Place
from bench.serve.environments import environment
from bench.serve.machine import look


@dataclass(frozen=True)
class Options:
    """The command line: `rounds` of a comparison, `requests` of each stream in a round, `tokens` of each answer."""

    ours: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    requests: int
    tokens: int

    def contestants(self) -> list[Contestant]:
        """Ours first, then the peers."""
        return [*(OURS[name] for name in self.ours), *(PEER_SERVERS[name] for name in self.peers)]

    def weights(self) -> dict[str, str]:
        """What each computes with."""
        return {contestant.name: contestant.weights for contestant in self.contestants()}


def _single(options: Options, setting: Setting) -> object:
    ours = [OURS[name] for name in options.ours]
    found = single.measure(
        ours, setting, rounds=options.rounds, repetitions=4 * options.requests, tokens=options.tokens
    )
    single.show(found)
    return {name: asdict(pair) for name, pair in found.items()}


def _concurrent(options: Options, setting: Setting) -> object:
    found = {}
    for name, title in (
        ("alike", "which begin together and are of one length"),
        ("mixed", "which begin one after the other and are of different lengths"),
    ):
        figures = concurrent.measure(
            options.contestants(),
            setting,
            rounds=options.rounds,
            requests=options.requests,
            tokens=options.tokens,
            alike=name == "alike",
        )
        concurrent.show(title, figures, options.weights())
        found[name] = {one: asdict(figure) for one, figure in figures.items()}
    return found


def _cold(options: Options, setting: Setting) -> object:
    found = coldstart.measure(options.contestants(), setting, rounds=options.rounds)
    coldstart.show(found, options.weights())
    return found


PARTS: dict[str, Callable[[Options, Setting], object]] = {
    "single": _single,
    "concurrent": _concurrent,
    "cold": _cold,
}


def main() -> None:
    """Parse, look at the machine, measure, print."""
    parser = argparse.ArgumentParser(
        prog="bench.llm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=names_of(PARTS), default=tuple(PARTS), help="parts, with commas")
    parser.add_argument("--ours", type=names_of(OURS), default=tuple(OURS), help=", ".join(OURS))
    parser.add_argument(
        "--peers", type=names_of(PEER_SERVERS), default=tuple(PEER_SERVERS), help=", ".join(PEER_SERVERS)
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2, help="of each stream in a round")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "build" / "bench-llm", help="for environments and models"
    )
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine all the same")
    parser.add_argument("--json", type=Path, help="write all figures to this file too")
    given = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every start would compile anew
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # by way of every `with`, which ends the servers
    options = Options(given.ours, given.peers, given.rounds, given.requests, given.tokens)
    cache = given.cache.resolve()
    needed = options.contestants() if set(given.only) - {"single"} else [OURS[name] for name in options.ours]
    for name in sorted({one.environment for one in needed} | {"convert"}):
        environment(name, cache, PEERS)
    models = prepare(cache, environment("convert", cache, PEERS))
    machine = look(anyway=given.busy)
    print(f"{machine.cores} cores, {machine.idle:.0%} idle, load {' '.join(f'{load:.2f}' for load in machine.load)}")
    found: dict[str, object] = {"machine": asdict(machine)}
    with tempfile.TemporaryDirectory(prefix="bench-llm-") as scratch:
        setting = Setting(models, Place(cache, Path(scratch)))
        for name in given.only:
            found[name] = PARTS[name](options, setting)
            if given.json:
                given.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    print(f"\nload at the end {' '.join(f'{load:.2f}' for load in os.getloadavg())}", file=sys.stderr)


if __name__ == "__main__":
    main()
