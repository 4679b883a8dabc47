"""Answers in parts, as they come: server-sent events, or one JSON value per line.

The status is sent with the first part, so that a request that fails before it gets the right status. What fails
later is an event `error`; the end is an event `done`, so that a client can tell it from a connection that broke.

While nothing comes, a comment is sent every few seconds, which clients pass over: proxies close what is silent for
30 or 60 seconds. The first one sends the status 200, if no part has: what fails after that is an event `error`. Lines
of JSON have no comments, so that their silence is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from lightship_runtime.front.request import Request
from lightship_runtime.payload.call import Answer
from lightship_runtime.payload.query import wants_parts

Form = Literal["events", "lines"]
TYPES: dict[Form, bytes] = {"events": b"text/event-stream", "lines": b"application/x-ndjson"}
_COMMENT = b":\n\n"
HEADERS = b"cache-control: no-store\r\nx-accel-buffering: no\r\n"  # the second keeps nginx from gathering events


def stream_form(request: Request) -> Form | None:
    """How the client wants the answer in parts, by `Accept` or `?stream=true`; else None. Raises RequestError."""
    if (form := accepted_form(request)) is not None:
        return form
    if b"stream" in request.query and wants_parts(request.query.decode("latin-1")):
        return "events"
    return None


def accepted_form(request: Request) -> Form | None:
    """The form of parts that `Accept` names; None where it names none."""
    accept = request.headers.get(b"accept", b"")
    if b"text/event-stream" in accept:
        return "events"
    if b"application/x-ndjson" in accept:
        return "lines"
    return None


class Pace:
    """Has parts wait while the client does not take them: they must not gather in this process."""

    __slots__ = ("_flow", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._flow: Callable[[bool], None] | None = None

    def use(self, flow: Callable[[bool], None]) -> None:
        """Call `flow` with whether parts may come."""
        self._flow = flow

    def sent(self) -> None:
        """A part was sent; where the client is behind, it was the last one for now."""
        if self._request.channel.stalled and self._flow is not None and self._request.flow is None:
            self._request.flow = self._go_on
            self._flow(False)

    def _go_on(self, go: bool) -> None:
        self._request.flow = None
        if self._flow is not None:
            self._flow(go)


class Stream:
    """One answer in parts, with a comment after every `heartbeat` seconds of silence."""

    __slots__ = ("_form", "_heartbeat", "_last", "_request", "pace")

    def __init__(self, request: Request, form: Form, heartbeat: float) -> None:
        self._request = request
        self._form: Form = form
        self._heartbeat = heartbeat
        self._last = time.monotonic()
        self.pace = Pace(request)
        if form == "events":
            request.silent = self._silent

    def part(self, content: bytes) -> None:
        """Send a part, a JSON value."""
        self._begin()
        self._last = time.monotonic()
        self._request.send(b"data: %s\n\n" % content if self._form == "events" else content + b"\n")
        self.pace.sent()

    def end(self, answer: Answer) -> bool:
        """Send the end. False where nothing was sent yet and the answer is an error, to be sent as such."""
        failed = answer.status != 200
        if failed and not self._request.status:
            return False
        self._begin()
        name = b"error" if failed else b"done"
        body = answer.body or b"{}"
        if self._form == "events":
            self._request.send(b"event: %s\ndata: %s\n\n" % (name, body))
        elif failed:
            self._request.send(body + b"\n")
        self._request.end()
        return True

    def _silent(self, now: float) -> None:
        """Send a comment where nothing was sent for long."""
        if now - self._last >= self._heartbeat:
            self._begin()
            self._last = now
            self._request.send(_COMMENT)

    def _begin(self) -> None:
        if not self._request.status:
            self._request.begin(200, TYPES[self._form], HEADERS)
