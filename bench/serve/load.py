"""The load generator: compiled from load.c, with different requests and the right answer of each."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.serve.server import Question


class Outcome(msgspec.Struct, frozen=True):
    """What became of all requests; latencies in seconds, counted from when each request was due.

    Attributes:
        sent: Requests.
        accepted: Answered with 200, and rightly.
        refused: Answered with 429.
        wrong: Answered otherwise.
        broken: Whose connection ended before the answer.
        unsent: That were due while no connection was free.
        hanging: Without an answer half a minute after the end.
        without_retry_after: Answered with 429 that does not say when to come again.
        seconds: Until the last answer.
        p50: Of accepted requests, as `p99`; `refused_p50` and `refused_p99` of those with 429.
    """

    sent: int
    accepted: int
    refused: int
    wrong: int
    broken: int
    unsent: int
    hanging: int
    without_retry_after: int
    seconds: float
    p50: float
    p99: float
    refused_p50: float
    refused_p99: float

    @property
    def clean(self) -> bool:
        """Whether every request was answered, rightly or with a 429 that says when to come again."""
        return not (self.wrong or self.broken or self.hanging or self.without_retry_after)


class Generator:
    """The compiled generator, in an empty folder of its own."""

    def __init__(self, folder: Path, questions: Sequence[Question]) -> None:
        self._program = folder / "load"
        self._file = folder / "requests"
        source = Path(__file__).with_name("load.c")
        subprocess.run(["cc", "-O2", "-o", str(self._program), str(source)], check=True)
        with self._file.open("wb") as file:
            for question in questions:
                body = question.body.encode()
                head = (
                    f"POST {question.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n"
                )
                request, expected = head.encode() + body, question.expected.encode()
                file.write(b"%d %d %d\n" % (len(request), len(expected), question.whole) + request + expected)

    def run(self, port: int, *, rate: float | None, seconds: float, connections: int) -> Outcome:
        """Ask at a fixed rate per second; None asks as soon as a connection is free (closed loop)."""
        pace = "--closed" if rate is None else f"{rate:.3f}"
        command = [str(self._program), str(port), pace, f"{seconds:.3f}", str(connections), str(self._file)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return msgspec.json.decode(done.stdout, type=Outcome)
