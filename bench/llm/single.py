"""One stream: our server beside its engine in a process of its own, the same model, threads, message and tokens."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.llm.client import Heard, run_one
from bench.llm.coldstart import ready
from bench.llm.contestants import PEERS, Contestant, Lightship, Setting
from bench.serve.environments import environment

_MESSAGE = "Chapter {} is about a fox who learns how to sail a ship across the sea, and who meets a whale. Write it."
_RATE, _FIRST = 0.95, 1.1  # the bars
_REST = 0.05  # seconds between two answers, in which the threads of the one before stop to wait for more work
_PROGRAMS = {
    "onnxruntime-genai": "genai.py",
    "llamacpp": "llamacpp.py",
    "transformers-generation": "generate.py",
}


@dataclass(frozen=True)
class Figures:
    """Medians over all repetitions: tokens per second from the request to the last token, seconds to the first."""

    rate: float
    first: float


@dataclass(frozen=True)
class Pair:
    """Our server, the engine by itself, and whether both wrote the same text every time."""

    served: Figures
    direct: Figures
    equal: bool


def measure(
    contestants: Sequence[Contestant], setting: Setting, *, rounds: int, repetitions: int, tokens: int
) -> dict[str, Pair]:
    """In each round both are started anew; they write in turns, so that what disturbs one disturbs the other.

    Each message is another one, which no engine has seen: only what stands before it in all chats may be kept.
    """
    found = {}
    for contestant in contestants:
        equal = True
        served: list[Heard] = []
        direct: list[Heard] = []
        for turn in range(rounds):
            with contestant.run(setting) as server, _Direct(contestant, setting) as engine:
                ready(server, contestant.ask(setting, "Hello", 8))
                for repetition in range(repetitions + 1):
                    message = _MESSAGE.format(turn * (repetitions + 1) + repetition + 1)
                    both = {
                        "served": partial(run_one, server.port, contestant.ask(setting, message, tokens)),
                        "direct": partial(engine.write, message, tokens),
                    }
                    heard = {}
                    for which in sorted(both, reverse=bool(repetition % 2)):
                        time.sleep(_REST)
                        heard[which] = both[which]()
                    equal = equal and heard["served"].text == heard["direct"].text
                    if repetition:  # the first one warms both
                        served.append(heard["served"])
                        direct.append(heard["direct"])
        found[contestant.name] = Pair(_figures(served), _figures(direct), equal)
    return found


def show(found: dict[str, Pair]) -> None:
    """Two lines for each engine, and what is held against the bars."""
    print("\none stream, our server and its engine called directly in a process of its own")
    for name, pair in found.items():
        for title, figures in ((name, pair.served), ("  directly", pair.direct)):
            print(f"  {title:22} {figures.rate:7.1f} tokens/s   first token {figures.first * 1e3:7.1f} ms")
        rate, first = pair.served.rate / pair.direct.rate, pair.served.first / pair.direct.first
        print(
            f"  {'':22} {rate:.2f} of the tokens per second (bar: {_RATE}), {first:.2f} of the time to the first one "
            f"(bar: {_FIRST}); {'the same' if pair.equal else 'NOT THE SAME'} text",
            flush=True,
        )


class _Direct:
    """The engine in its process, which waits between two answers."""

    def __init__(self, contestant: Contestant, setting: Setting) -> None:
        assert isinstance(contestant.start, Lightship)
        python = environment(contestant.environment, setting.place.cache, PEERS)
        script = Path(__file__).parent / "direct" / _PROGRAMS[contestant.start.engine]
        arguments = [str(contestant.start.model(setting.models)), str(len(os.sched_getaffinity(0)))]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([str(python), str(script), *arguments], stdin=pipe, stdout=pipe, text=True)

    def write(self, message: str, tokens: int) -> Heard:
        """One answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"message": message, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise SystemExit("the engine ended by itself")
        return Heard(0.0, **json.loads(line))

    def __enter__(self) -> _Direct:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its input, and so ends it


def _figures(heard: Sequence[Heard]) -> Figures:
    return Figures(
        rate=statistics.median(one.tokens / one.seconds for one in heard),
        first=statistics.median(one.first for one in heard),
    )
