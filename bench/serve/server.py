"""A server under measurement: started, asked until it answers correctly, weighed, and ended with all it started."""

from __future__ import annotations

import http.client
import os
import random
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL = 0.005  # seconds between two attempts
_KEPT = range(20_000, 32_000)  # below those that Linux gives to clients (ip_local_port_range)
PATIENCE = 120  # seconds until a server that does not answer is given up
_MARK = "BENCH_SERVE_RUN"  # this variable, inherited, tells which processes belong to a server


@dataclass(frozen=True)
class Question:
    """A request and its right answer.

    Attributes:
        path: The URL's path.
        body: JSON.
        expected: The answer's body, to the byte.
        whole: False where the body has parts that differ each time: `expected` is then the rest of it, which only the
            right answer has.
    """

    path: str
    body: str
    expected: str
    whole: bool = True

    def is_right(self, body: bytes) -> bool:
        """Whether this is the right answer's body."""
        expected = self.expected.encode()
        return body == expected if self.whole else expected in body


def free_port(*, kept: bool = False) -> int:
    """A port of loopback that nobody listens on; one that is `kept` is never given to a client's connection."""
    for port in random.sample(_KEPT, len(_KEPT)) if kept else ():
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(port: int, question: Question, timeout: float = 10) -> bool:
    """Whether the answer on a new connection has status 200 and is right."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", question.path, question.body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return question.is_right(response.read()) and response.status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Server:
    """One running server; `with` ends it."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        questions: Sequence[Question],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        log: Path,
    ) -> None:
        self.port = port
        self.questions = questions
        self._log = log
        self._mark = secrets.token_hex(8)
        with log.open("wb") as file:
            self.started = time.monotonic()
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environ, "BENCH_PORT": str(port), _MARK: self._mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def question(self) -> Question:
        """The first of its questions."""
        return self.questions[0]

    def wait(self) -> float:
        """Seconds from the process's start to its first correct answer."""
        while time.monotonic() - self.started < PATIENCE:
            if ask(self.port, self.question):
                return time.monotonic() - self.started
            if self.process.poll() is not None:
                break
            time.sleep(POLL)
        raise self.gave_up()

    def gave_up(self) -> SystemExit:
        """Stop it; the end of the benchmark, with what the server has said."""
        self.stop()
        return SystemExit(f"{self.process.args!r} did not answer correctly:\n{self.said()}")

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-4000:]

    def pids(self) -> list[int]:
        """All processes that belong to this server, orphans too."""
        found = []
        mark = f"{_MARK}={self._mark}".encode()
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with suppress(OSError):
                    if mark in Path(entry.path, "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def memory(self, kind: str = "Pss") -> int:
        """Bytes of all its processes together: proportional (Pss) or resident (Rss)."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith(f"{kind}:"):
                        total += int(line.split()[1]) * 1024
        return total

    def stop(self, patience: float = 15) -> int | None:
        """SIGTERM, and SIGKILL for what is left after `patience` seconds; gives the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
