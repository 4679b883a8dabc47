"""Answers in parts, as they come: server-sent events, or one JSON value per line.

The status is sent with the first part, so that a request that fails before it gets the right status. What fails
later is an event `error`; the end is an event `done`, so that a client can tell it from a connection that broke.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import parse_qs

from lightship_runtime.front.request import Request
from lightship_runtime.payload.call import Answer

Form = Literal["events", "lines"]
_TYPES: dict[Form, bytes] = {"events": b"text/event-stream", "lines": b"application/x-ndjson"}
_HEADERS = b"cache-control: no-store\r\nx-accel-buffering: no\r\n"  # the second keeps nginx from gathering events


def stream_form(request: Request) -> Form | None:
    """How the client wants the answer in parts: by `Accept`, or `?stream=true`; None where it wants it whole."""
    accept = request.headers.get(b"accept", b"")
    if b"text/event-stream" in accept:
        return "events"
    if b"application/x-ndjson" in accept:
        return "lines"
    if b"stream" in request.query:
        values = parse_qs(request.query.decode("latin-1"), max_num_fields=32).get("stream", ["false"])
        if values[-1].lower() in ("1", "true"):
            return "events"
    return None


class Stream:
    """One answer in parts."""

    __slots__ = ("_form", "_request")

    def __init__(self, request: Request, form: Form) -> None:
        self._request = request
        self._form: Form = form

    def part(self, content: bytes) -> None:
        """Send a part, a JSON value."""
        self._begin()
        self._request.send(b"data: %s\n\n" % content if self._form == "events" else content + b"\n")

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

    def _begin(self) -> None:
        if not self._request.status:
            self._request.begin(200, _TYPES[self._form], _HEADERS)
