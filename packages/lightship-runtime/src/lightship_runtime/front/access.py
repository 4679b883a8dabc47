"""The access log: one line per request, written beside the event loop and never holding up an answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Literal

from lightship_runtime.front.request import Request
from lightship_runtime.log import Log

AccessLogging = Literal["all", "errors", "off"]
_HELD = 10_000  # lines that may wait to be written; what comes beyond is counted only
_PAUSE = 0.1  # seconds


class AccessLog:
    """Gathers lines, and writes them a tenth of a second later in a thread."""

    def __init__(self, which: AccessLogging, log: Log) -> None:
        self._from = {"all": 0, "errors": 500, "off": 1000}[which]
        self._log = log
        self._lines: list[tuple[Any, ...]] = []
        self._dropped = 0
        self._waiting = False
        self._prefix = os.urandom(6).hex()
        self._number = 0

    def note(self, request: Request, route: str, seconds: float) -> None:
        """Note a request that has its answer."""
        found = request.route
        if request.status < self._from or (self._from and found is not None and found.open and found.quiet):
            return
        if len(self._lines) >= _HELD:
            self._dropped += 1
            return
        self._lines.append((request.method, route, request.status, seconds, request.sent, len(request.body), request))
        if not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(_PAUSE, self._hand_over)

    def _hand_over(self) -> None:
        self._waiting = False
        lines, self._lines = self._lines, []
        dropped, self._dropped = self._dropped, 0
        write: Callable[[], None] = lambda: self._write(lines, dropped)  # noqa: E731
        asyncio.get_running_loop().run_in_executor(None, write)

    def _write(self, lines: list[tuple[Any, ...]], dropped: int) -> None:
        for method, route, status, seconds, sent, received, request in lines:
            trace = request.headers.get(b"traceparent", b"").decode("ascii", "replace").split("-")
            identity = request.headers.get(b"x-request-id")
            self._log.event(
                "request",
                level="error" if status >= 500 else "info",
                method=method,
                route=route,
                status=status or 499,
                seconds=round(seconds, 6),
                sent=sent,
                received=received,
                request_id=identity.decode("ascii", "replace")[:128] if identity else None,
                trace_id=trace[1] if len(trace) == 4 and len(trace[1]) == 32 else None,
                client=getattr(request.channel, "client", None) or None,
            )
        if dropped:
            self._log.event("requests not logged", level="warning", requests=dropped)
