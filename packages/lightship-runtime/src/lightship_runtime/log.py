"""Logs: one JSON object per line on standard error. Events of the server, never the content of a request."""

from __future__ import annotations

import json
import logging
import time
import traceback
import warnings
from types import TracebackType
from typing import Any, Literal, TextIO

Level = Literal["info", "warning", "error"]


class Log:
    """Writes events, each whole in one write, so that lines of several threads never mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, name: str, *, level: Level = "info", **fields: Any) -> None:
        """Write one event. Fields with the value None are left out; times are UTC, durations are in seconds."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line = {"time": stamp, "level": level, "event": name}
        line.update((key, value) for key, value in fields.items() if value is not None)
        try:
            self._stream.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            self._stream.flush()
        except (OSError, ValueError, RuntimeError):  # the reader has gone, or a signal came within a write; go on
            pass


def round_seconds(seconds: float) -> float:
    """A duration as it is logged: to the millisecond."""
    return round(seconds, 3)


def where(trace: TracebackType | None) -> list[str]:
    """The calls of a traceback, innermost last, without the exception's text: that may quote the request."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)[-12:]]


def log_warnings(log: Log, *, text: bool) -> None:
    """Bring Python's warnings into the log. Without `text` only their kind and place: once requests come, the text of
    a warning may quote them ("unknown categories ['...']").
    """

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        said = str(message) if text else None
        log.event("warning", level="warning", category=category.__name__, where=f"{filename}:{lineno}", message=said)

    warnings.showwarning = show


class LoggingHandler(logging.Handler):
    """Brings what a library writes with `logging` into the same form."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        if record.levelno < logging.WARNING:
            level = "info"
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else None
        self._log.event("log", level=level, logger=record.name, message=record.getMessage(), traceback=trace)
