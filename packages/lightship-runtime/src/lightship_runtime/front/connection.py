"""One HTTP/1.1 connection: from bytes to requests with httptools (llhttp), and their answers back in order.

Limits are kept here: on the head's size and time, on the body's size and time, on how long an answer may wait to be
taken, and on how long a connection may be idle. Time is kept by one clock for all connections, twice a second, so
that a request sets no timers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import httptools

from lightship_runtime.front.request import Request

HEAD_LIMIT = 32 << 10  # bytes of the request line and all headers
HEADERS_LIMIT = 100
URL_LIMIT = 8 << 10  # bytes
PIPELINED = 32  # requests that may wait on a connection for the one before them
DISCARDED = 8  # times the body limit that is read and dropped, so that the client gets to read the 413
IDLE_SECONDS = 75.0  # longer than the usual 60 of load balancers, which must be the side that closes
WRITE_SECONDS = 60.0  # in which a client must take something of an answer that waits for it
LINGER_SECONDS = 2.0  # in which a client that is still sending may read the answer
_ONCE = frozenset((b"content-length", b"host", b"transfer-encoding", b"authorization", b"x-api-key", b"content-type"))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Settings:
    """What all connections of a server share.

    Attributes:
        body_limit: Bytes.
        head_seconds: In which a request's head must arrive.
        body_seconds: In which its body must arrive after that.
        accept: Called with each request whose head is read; may set `refusal`. Decides nothing else.
        handle: Called with each complete request, one at a time per connection.
        finished: Called when a request's answer is complete.
        connections: All that are open.
        draining: Whether answers ask the client to close.
    """

    __slots__ = (
        "accept",
        "body_limit",
        "body_seconds",
        "connections",
        "draining",
        "finished",
        "handle",
        "head_seconds",
    )

    def __init__(
        self,
        body_limit: int,
        head_seconds: float,
        body_seconds: float,
        accept: Callable[[Request], None],
        handle: Callable[[Request], None],
        finished: Callable[[Request], None],
    ) -> None:
        self.body_limit = body_limit
        self.head_seconds = head_seconds
        self.body_seconds = body_seconds
        self.accept = accept
        self.handle = handle
        self.finished = finished
        self.connections: set[Connection] = set()
        self.draining = False


class Connection(asyncio.Protocol):
    """Reads requests and hands them out one at a time."""

    __slots__ = (
        "_begun",
        "_body",
        "_current",
        "_deadline",
        "_expected",
        "_head_bytes",
        "_headers",
        "_in_body",
        "_lingering",
        "_parser",
        "_paused",
        "_queue",
        "_reading",
        "_settings",
        "_size",
        "_stalled",
        "_transport",
        "_url",
        "client",
    )

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Request] = deque()  # complete, waiting for the one before them
        self._current: Request | None = None  # being answered
        self._reading: Request | None = None  # its head is read, its body is not
        self._headers: dict[bytes, bytes] = {}
        self._url = b""
        self._head_bytes = 0
        self._begun = False  # a request's first byte is there, its last is not
        self._in_body = False
        self._expected = False  # the client waits to be told to send the body
        self._lingering = False  # answered and half closed; what still comes is thrown away
        self._body: list[bytes] = []
        self._size = 0
        self._paused = False
        self._stalled = 0.0  # since when the client takes nothing; 0 where it does
        self._deadline = time.monotonic() + self._settings.head_seconds
        self.client = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._settings.connections.add(self)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) and peer else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._settings.connections.discard(self)
        self._queue.clear()
        current, self._current = self._current, None
        if current is not None:
            if current.gone is not None:
                current.gone()
            self._settle(current)
        self._parser = None  # each knows the other, and with them what was read would stay until the next collection

    def eof_received(self) -> None:
        """A client that closes its side is taken for gone, as other servers do: the two cannot be told apart."""

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._begun and not self._in_body:  # a head that goes on, with whatever may follow it
            if self._head_bytes > HEAD_LIMIT:
                self._refuse(431, "The request's head is too large.")
                return
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # on_headers_complete has seen to it
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__ or error.__cause__
            if isinstance(cause, _Refused):
                self._refuse(cause.status, cause.message)
            else:
                self._fail(error)
        except httptools.HttpParserError:
            self._refuse(400, "The request is not valid HTTP.")

    def pause_writing(self) -> None:
        self._stalled = time.monotonic()

    def resume_writing(self) -> None:
        self._stalled = 0.0
        if self._current is not None and self._current.flow is not None:
            self._current.flow(True)

    # httptools

    def on_message_begin(self) -> None:
        self._begun = True
        self._head_bytes = 0
        self._headers = {}
        self._url = b""
        self._deadline = time.monotonic() + self._settings.head_seconds

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > URL_LIMIT:
            raise _Refused(414, "The URL is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        name = name.lower()
        if name in headers and name in _ONCE:
            raise _Refused(400, "A header is there twice.")
        headers[name] = value
        self._head_bytes += len(value)
        if len(headers) > HEADERS_LIMIT or self._head_bytes > 2 * HEAD_LIMIT:
            raise _Refused(431, "There are too many headers, or they are too large.")

    def on_headers_complete(self) -> None:
        headers = self._headers
        if b"host" not in headers and self._parser.get_http_version() == "1.1":
            raise _Refused(400, "The header Host is missing.")
        path, _, query = self._url.partition(b"?")
        if not path.startswith(b"/"):
            path = _absolute(path)
        if b"%" in path:
            path = unquote_to_bytes(path)
        try:
            text = path.decode()
        except UnicodeDecodeError:
            raise _Refused(400, "The path is not UTF-8.") from None
        request = Request(self, self._parser.get_method().decode("ascii"), text, query, headers)
        request.keep = self._parser.should_keep_alive()
        if self._parser.should_upgrade():  # to what we do not speak: answered as HTTP/1.1, and the parser ends here
            if request.method not in ("GET", "HEAD"):
                raise _Refused(400, "This server speaks HTTP/1.1 only.")
            request.keep = False
        self._reading = request
        self._body = []
        self._size = 0
        self._in_body = True
        self._settings.accept(request)
        limit = self._settings.body_limit
        length = headers.get(b"content-length")
        announced = int(length) if length is not None and length.isdigit() else 0
        expects = headers.get(b"expect", b"").lower() == b"100-continue"
        if announced > limit and request.refusal is None:
            request.refusal = (413, f"The body is larger than {limit} bytes.")
        if request.refusal is not None and (expects or announced > limit * DISCARDED):
            raise _Refused(*request.refusal)  # the client waits, or would send for too long
        self._expected = expects and self._parser.get_http_version() == "1.1"
        if self._current is None:
            self._ask_for_body()
        self._deadline = time.monotonic() + self._settings.body_seconds

    def _ask_for_body(self) -> None:
        """Say `100 Continue` where it is waited for, after all answers before it."""
        if self._expected and self._transport is not None:
            self._transport.write(_CONTINUE)
        self._expected = False

    def on_body(self, body: bytes) -> None:
        self._expected = False
        self._size += len(body)
        request = self._reading
        if request is None:
            return
        limit = self._settings.body_limit
        if self._size > limit:
            self._body.clear()
            if request.refusal is None:
                request.refusal = (413, f"The body is larger than {limit} bytes.")
            if self._size > limit * DISCARDED:
                raise _Refused(*request.refusal)
        elif request.refusal is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        request = self._reading
        assert request is not None
        self._reading = None
        self._in_body = self._begun = False
        body = self._body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self._body = []
        if self._current is None:
            self._start(request)
            return
        self._queue.append(request)
        if len(self._queue) >= PIPELINED:
            raise _Refused(400, "Too many requests were sent ahead.")
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    # answers

    @property
    def draining(self) -> bool:
        """Whether clients are asked to go elsewhere."""
        return self._settings.draining

    @property
    def stalled(self) -> bool:
        """Whether the client does not take what was sent."""
        return self._stalled > 0

    def write(self, request: Request, data: bytes, *, last: bool) -> None:
        """Send bytes of the answer to the request that is being answered."""
        transport = self._transport
        if transport is None or request is not self._current:
            return
        request.sent += len(data)
        transport.write(data)
        if not last:
            return
        self._current = None
        self._settle(request)
        if not request.keep:
            self._close(transport)
            return
        self._deadline = time.monotonic() + self._patience()
        if self._queue:
            self._start(self._queue.popleft())
        elif self._reading is not None:
            self._ask_for_body()
        if self._paused and not self._queue and self._transport is not None:
            self._paused = False
            transport.resume_reading()

    def _patience(self) -> float:
        """Seconds from an answer to whatever comes next: the rest of a body, of a head, or another request."""
        if self._in_body:
            return self._settings.body_seconds
        return self._settings.head_seconds if self._begun else IDLE_SECONDS

    def _settle(self, request: Request) -> None:
        """An answer is complete, or nobody waits for it: its body is let go now, not at the next collection."""
        self._settings.finished(request)
        request.gone = request.flow = request.silent = None
        request.body = b""

    def _start(self, request: Request) -> None:
        self._current = request
        if request.refusal is not None:
            request.fail(*request.refusal, extra=request.refusal_headers)
        else:
            self._settings.handle(request)

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be read any further, after the answers before it, and close."""
        transport = self._transport
        if transport is None:
            return
        request = self._reading or Request(self, "GET", "", b"", {})
        self._reading = None
        request.keep = False
        if self._current is not None:
            transport.pause_reading()
            self._queue.clear()
            self._current.keep = False  # what was asked before is still answered, the rest is not
            return
        self._current = request
        request.fail(status, message)

    def _fail(self, error: Exception) -> None:
        """A mistake of ours: it is told to the loop, which logs it, and the client gets an answer all the same."""
        asyncio.get_running_loop().call_exception_handler({"message": "a request failed", "exception": error})
        current = self._current
        if current is None:
            self._refuse(500, "The request failed.")
        elif current.status:
            self.abort()
        else:
            current.keep = False
            current.fail(500, "The request failed.")

    def _close(self, transport: asyncio.Transport) -> None:
        """Close, but not under a client that is still sending: a reset would take the answer from it."""
        self._queue.clear()
        if not self._begun or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        self._lingering = True
        self._deadline = time.monotonic() + LINGER_SECONDS

    # time

    @property
    def idle(self) -> bool:
        """Whether nothing is being read or answered."""
        return self._current is None and not self._begun

    def close_when_idle(self) -> None:
        """Close now where nothing is going on, else after the answer."""
        if self._current is not None:
            self._current.keep = False
        elif self._transport is not None and self.idle:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is going on."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """Give up what takes too long."""
        transport = self._transport
        if transport is None:
            return
        if self._stalled and now > self._stalled + WRITE_SECONDS:
            transport.abort()
        elif self._current is not None:
            if self._current.silent is not None and not self._stalled:
                self._current.silent(now)
        elif now > self._deadline:
            if self._lingering:
                transport.close()
            elif self._reading is not None:
                self._refuse(408, "The body did not arrive in time.")
            elif self._begun:
                self._refuse(408, "The request did not arrive in time.")
            else:
                transport.close()


class _Refused(Exception):  # not an error of ours
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _absolute(url: bytes) -> bytes:
    """The path of a URL in absolute form, as proxies are asked for."""
    try:
        return httptools.parse_url(url).path or b"/"
    except httptools.HttpParserInvalidURLError:
        raise _Refused(400, "The URL is not valid.") from None
