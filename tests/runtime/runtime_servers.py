"""Servers of the runtime as real processes on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

START = 60  # seconds; generous, because the machine may be busy with other tests


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():  # a child is listed with the thread that has started it
        for child in (thread / "children").read_text().split():
            found += [int(child), *family(int(child))]
    return found


class Runtime:
    """`python -m lightship_runtime` with a configuration of its own."""

    def __init__(self, app: Path, config: dict[str, Any], environment: dict[str, str]) -> None:
        self.app = app
        self.port = free_port()
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        path = app / ".lightship" / "serve.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"host": "127.0.0.1", "port": self.port, **config}))
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("PORT", "LIGHTSHIP_PORT")},
            "LIGHTSHIP_CONFIG": str(path),
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lightship_runtime"],
            env=self.environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "no JSON", "line": line}
            with self._changed:
                self.events.append(event)
                self._changed.notify_all()
        with self._changed:
            self.events.append({"event": "end of log"})
            self._changed.notify_all()

    def wait_for(self, name: str, seconds: float = START) -> dict[str, Any]:
        """The event `name`, when it comes."""
        with self._changed:
            self._changed.wait_for(lambda: self.event(name) or self.event("end of log"), seconds)
        found = self.event(name)
        assert found, f"no {name!r} in the log: {self.events}"
        return found

    def event(self, name: str) -> dict[str, Any] | None:
        return next((event for event in self.events if event["event"] == name), None)

    def ready(self) -> Runtime:
        self.wait_for("ready")
        return self

    def failure(self) -> tuple[int, dict[str, Any]]:
        """Exit status and the last word of a server that does not start."""
        code = self.process.wait(START)
        self._reader.join(START)
        return code, self.wait_for("failed")

    def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str | None = "application/json"
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START)
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if content_type and body else {})
            response = connection.getresponse()
            content = response.read()
            return response.status, json.loads(content) if content else None
        finally:
            connection.close()

    def predict(self, value: Any, path: str = "/predict") -> tuple[int, Any]:
        return self.ask("POST", path, json.dumps(value).encode())

    def stop(self, number: int = signal.SIGTERM) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        code = self.process.wait(START)
        self._reader.join(START)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(START)
