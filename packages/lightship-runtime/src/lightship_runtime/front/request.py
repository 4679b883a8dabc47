"""One HTTP request, and the one answer that it gets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

REASONS = {
    200: b"OK",
    304: b"Not Modified",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    406: b"Not Acceptable",
    408: b"Request Timeout",
    411: b"Length Required",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
_LINES = {status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in REASONS.items()}


class Channel(Protocol):
    """Where an answer goes: the connection that the request came on."""

    @property
    def draining(self) -> bool: ...

    @property
    def stalled(self) -> bool: ...

    def write(self, request: Request, data: bytes, *, last: bool) -> None: ...


class Request:
    """A request whose head has been read.

    Attributes:
        method: In capitals.
        path: Decoded, without the query.
        query: What follows `?`, as sent.
        headers: By lower-case name; the last of several with one name.
        body: Whole, once the request is complete.
        keep: Whether the connection may be used again afterwards.
        arrived: `time.monotonic()` when the first byte of it was read.
        refusal: A status and message decided from the head alone, answered when the body has been passed over.
        common: Header lines that every answer to it has.
        refusal_headers: Header lines that explain it.
        reshape: Makes of a status and an error in Lightship's form one in the form that its API has, if set.
        flow: Called with whether the client takes more of an answer in parts, if set.
        gone: Called when the client goes away before the answer, if set.
        silent: Called now and then while it is being answered, with the `time.monotonic()`, if set.
        owner: The name of the API key that it came with; "" where none is needed.
        status: Of the answer, once it has begun; else 0.
    """

    __slots__ = (
        "arrived",
        "body",
        "channel",
        "chunked",
        "common",
        "flow",
        "gone",
        "headers",
        "keep",
        "method",
        "owner",
        "path",
        "query",
        "refusal",
        "refusal_headers",
        "reshape",
        "route",
        "sent",
        "silent",
        "status",
    )

    def __init__(self, channel: Channel, method: str, path: str, query: bytes, headers: dict[bytes, bytes]) -> None:
        self.channel = channel
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = b""
        self.keep = True
        self.arrived = time.monotonic()
        self.refusal: tuple[int, str] | None = None
        self.refusal_headers = b""
        self.reshape: Callable[[int, bytes], bytes] | None = None
        self.common = b""
        self.gone: Callable[[], None] | None = None
        self.flow: Callable[[bool], None] | None = None
        self.silent: Callable[[float], None] | None = None
        self.owner = ""
        self.status = 0
        self.sent = 0
        self.chunked = False
        self.route: Any = None

    def respond(
        self, status: int, body: bytes, content_type: bytes = b"application/json", extra: bytes = b""
    ) -> None:
        """Send the whole answer. `extra` are header lines, each with its end. A second answer is not sent."""
        if self.status:
            return
        self.status = status
        if self.channel.draining:
            self.keep = False
        closing = b"" if self.keep else b"connection: close\r\n"
        head = b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n" % (
            _LINES[status],
            content_type,
            len(body),
            extra + self.common if self.common else extra,
            closing,
        )
        self.channel.write(self, head if self.method == "HEAD" else head + body, last=True)

    def begin(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """Begin an answer that comes in parts."""
        if self.status:
            return
        self.status = status
        self.chunked = True
        if self.channel.draining:
            self.keep = False
        closing = b"" if self.keep else b"connection: close\r\n"
        head = b"%scontent-type: %s\r\ntransfer-encoding: chunked\r\n%s%s\r\n" % (
            _LINES[status],
            content_type,
            extra + self.common if self.common else extra,
            closing,
        )
        self.channel.write(self, head, last=False)

    def send(self, part: bytes) -> None:
        """Send a part of an answer that was begun."""
        if part:
            self.channel.write(self, b"%x\r\n%s\r\n" % (len(part), part), last=False)

    def end(self) -> None:
        """End an answer that was begun."""
        self.channel.write(self, b"0\r\n\r\n", last=True)

    def fail(self, status: int, message: str, extra: bytes = b"") -> None:
        """Send an error as JSON."""
        import json

        if status in (408, 413):
            self.keep = False  # the rest of the body is unread
        body = json.dumps({"error": message}, ensure_ascii=False).encode()
        self.respond(status, body if self.reshape is None else self.reshape(status, body), extra=extra)
