"""A server under measurement: started, asked until it answers correctly, weighed, and ended with all it started."""

from __future__ import annotations

import os
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
PATIENCE = 120  # seconds until a server that does not answer is given up
_MARK = "BENCH_SERVE_RUN"  # this variable, inherited, tells which processes belong to a server


@dataclass(frozen=True)
class Question:
    """A request and what its answer must contain.

    Attributes:
        path: The URL's path.
        body: JSON.
        expected: A piece of the answer that only the right answer has.
    """

    path: str
    body: str
    expected: str

    def encode(self) -> bytes:
        """The whole HTTP request; the connection ends after it."""
        body = self.body.encode()
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(port: int, question: Question, timeout: float = 10) -> bool:
    """Whether the answer on a new connection has status 200 and is right."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(question.encode())
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200") and question.expected.encode() in answer


class Server:
    """One running server; `with` ends it."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        question: Question,
        *,
        environ: Mapping[str, str],
        cwd: Path,
        log: Path,
    ) -> None:
        self.port = port
        self.question = question
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

    def wait(self) -> float:
        """Seconds from the process's start to its first correct answer."""
        while time.monotonic() - self.started < PATIENCE:
            if ask(self.port, self.question):
                return time.monotonic() - self.started
            if self.process.poll() is not None:
                break
            time.sleep(POLL)
        self.stop()
        raise SystemExit(f"{self.process.args!r} did not answer correctly:\n{self.said()}")

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
