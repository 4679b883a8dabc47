"""Overload: three times the load that saturates our server, from an open-loop generator, for a minute.

Where the server itself is what is busy, no generator on the same machine can offer three times what it can take. So
the model is the work here: a function of some milliseconds on one core, with one worker, batches of one call, and a
queue of `QUEUE` calls. Its answers depend on what was asked, and each is compared.

The saturating load is the lowest, in steps of 2% and in an open loop, of which at least 1% is refused: the queue is
full at times and empty at others. It is looked for from a little below what a closed loop gets answered. The p99 at
saturation is taken over as long a time as that in overload, where the queue is always full: whoever is accepted waits
for all of it, and its bound is what keeps that in proportion.
"""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import msgspec

from bench.serve.contestants import Contestant, Lightship, Place
from bench.serve.load import Generator, Outcome
from bench.serve.models import Model
from bench.serve.server import Question, Server

TIMES = 3  # the load, in saturating loads
QUEUE = 16  # calls that may wait
WORK = 0.004  # seconds of one prediction
CONNECTIONS = 512  # clients of the open loop: far more than wait at any time, so that none is ever missing
_CLOSED = QUEUE  # clients of the closed loop: all of them are in the queue or at work, and none is refused
_BEGIN, _STEP, _STEPS = 0.94, 1.02, 20  # times what the closed loop gets, times the step before, at most so many
_REFUSED = 0.01  # part of the requests that is refused at saturation
_QUESTIONS = 256
_SAMPLE = 5.0  # seconds between two looks at the memory
_GROWN = 1.05  # times the memory after the first sixth of the overload that the end may have

_SOURCE = """
import hashlib

def predict(instances):
    return [hashlib.pbkdf2_hmac("sha256", text.encode(), b"", {rounds}).hex() for text in instances]
"""


def run(environment: str, place: Place, *, seconds: float) -> object:
    """Find the saturating load in steps of `seconds`, offer it, then three times that, each for 6 x `seconds`."""
    folder = place.fresh("overload")
    model, questions = _work(folder)
    settings: dict[str, object] = {"workers": 1, "batch": 1, "queue": QUEUE}
    contestant = Contestant("lightship", environment, Lightship(settings, questions))
    generator = Generator(place.fresh("generator"), questions)
    long = 6 * seconds
    with contestant.run(model, place) as server:
        server.wait()
        most = _saturating(generator, server, seconds)
        at = generator.run(server.port, rate=most, seconds=long, connections=CONNECTIONS)
        with _Watch(server) as memory:
            over = generator.run(server.port, rate=TIMES * most, seconds=long, connections=CONNECTIONS)
        lives = server.process.poll() is None
    print(
        f"\noverload: {most:.0f} req/s saturate one worker of {WORK * 1e3:.0f} ms each; queue of {QUEUE}; "
        f"{long:.0f} s at 1 and at {TIMES} times that"
    )
    _show("saturation", at)
    _show("overload", over)
    ratio = over.p99 / at.p99 if at.p99 else float("inf")
    early, late = memory[len(memory) // 6], memory[-1]
    faults = [
        *(["NOT CLEAN"] if not (over.clean and at.clean and lives) else []),
        *(["NOT VALID: the generator ran out of connections"] if over.unsent or at.unsent else []),
        *(["MEMORY GROWS"] if late > _GROWN * early else []),
    ]
    print(
        f"  p99 of accepted {ratio:.2f} times that at saturation (bar: 3); answered per second "
        f"{over.accepted / over.seconds:.0f}; memory {early / 1e6:.1f} MB early, {late / 1e6:.1f} MB at the end; "
        f"{', '.join(faults) or 'clean'}",
        flush=True,
    )
    return {
        "rate": most,
        "saturation": msgspec.to_builtins(at),
        "overload": msgspec.to_builtins(over),
        "rss": memory,
        "faults": faults,
    }


def _saturating(generator: Generator, server: Server, seconds: float) -> float:
    """Requests per second of which just so many are refused."""
    closed = generator.run(server.port, rate=None, seconds=seconds, connections=_CLOSED)
    rate = _BEGIN * closed.accepted / closed.seconds
    for _ in range(_STEPS):
        found = generator.run(server.port, rate=rate, seconds=seconds, connections=CONNECTIONS)
        if found.refused >= _REFUSED * found.sent:
            return rate
        rate *= _STEP
    raise SystemExit(f"{rate:.0f} requests per second do not saturate the server, which answered {closed} before")


def _work(folder: Path) -> tuple[Model, list[Question]]:
    """A model that takes `WORK` seconds of a core here, and what it answers to texts."""
    tried = 20_000
    began = time.thread_time()
    hashlib.pbkdf2_hmac("sha256", b"", b"", tried)
    rounds = max(1, int(tried * WORK / (time.thread_time() - began)))
    path = folder / "work.py"
    path.write_text(_SOURCE.format(rounds=rounds))

    answers = [hashlib.pbkdf2_hmac("sha256", b"%d" % number, b"", rounds).hex() for number in range(_QUESTIONS)]
    questions = [
        Question("/predict", f'{{"instances":["{number}"]}}', f'{{"predictions":["{answer}"]}}')
        for number, answer in enumerate(answers)
    ]
    return Model("work", path), questions


class _Watch:
    """Bytes that a server's processes have resident, looked at now and then while something else runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self._found: list[int] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(_SAMPLE):
            self._found.append(self._server.memory("Rss"))

    def __enter__(self) -> list[int]:
        self._thread.start()
        return self._found

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._found.append(self._server.memory("Rss"))


def _show(name: str, found: Outcome) -> None:
    print(
        f"  {name:11} accepted {found.accepted:8} (p50 {found.p50 * 1e3:.1f} ms, p99 {found.p99 * 1e3:.1f} ms)   "
        f"429 {found.refused:8} (p50 {found.refused_p50 * 1e3:.1f} ms, p99 {found.refused_p99 * 1e3:.1f} ms)   "
        f"wrong {found.wrong}   broken {found.broken}   hanging {found.hanging}   "
        f"429 without Retry-After {found.without_retry_after}   never sent {found.unsent}"
    )
