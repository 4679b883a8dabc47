"""A client of streamed answers that costs next to nothing: it is on the same cores as the servers.

It wakes up for the beginning of an answer, until there is text, and for its end: in between the kernel collects what
comes. All but the first text is taken apart when all streams have ended.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_READ = 1 << 20  # bytes
_ASLEEP = 1 << 20  # bytes that wake the client before the end; no answer has as many
_PATIENCE = 300  # seconds of silence after which a run is given up


@dataclass(frozen=True)
class Ask:
    """One request for a stream. `wait`: seconds after the stream's previous answer, or after the beginning."""

    path: str
    body: dict[str, Any]
    wait: float = 0.0

    def encode(self) -> bytes:
        body = json.dumps(self.body).encode()
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body


@dataclass(frozen=True)
class Heard:
    """What came of one request.

    Attributes:
        sent: When it was sent, in seconds of the monotonic clock; the connection was opened then, too.
        first: Seconds from then to the first text.
        seconds: Seconds to the end of the answer, which is the connection's.
        tokens: As the server counts them; where it does not, how many pieces of text there were.
        text: All of it.
    """

    sent: float
    first: float
    seconds: float
    tokens: int
    text: str


class NoAnswer(Exception):
    """The server answered with something else than a stream of text, or not at all."""


def run(port: int, streams: Sequence[Sequence[Ask]]) -> tuple[list[Heard], list[str]]:
    """Work on all streams at once, and in each on one request after the other.

    What was heard, and what was answered to the requests that were not answered with a whole stream. Raises NoAnswer
    where there is no answer at all.
    """
    began = time.monotonic()
    waiting = [_Stream(port, asks, began) for asks in streams if asks]
    raw: list[_Raw] = []
    with selectors.DefaultSelector() as selector:
        open_streams = 0
        while waiting or open_streams:
            now = time.monotonic()
            for stream in [one for one in waiting if one.due <= now]:
                waiting.remove(stream)
                selector.register(stream.begin(), selectors.EVENT_READ, stream)
                open_streams += 1
            pause = min((one.due for one in waiting), default=now + _PATIENCE) - time.monotonic()
            ready = selector.select(max(0.0, pause))
            if not ready and not waiting:
                raise NoAnswer(f"nothing came for {_PATIENCE} seconds")
            for key, _ in ready:
                stream = key.data
                if stream.receive():
                    continue
                selector.unregister(key.fileobj)
                open_streams -= 1
                raw.append(stream.ended())
                if stream.more:
                    waiting.append(stream)
    heard, failed = [], []
    for one in raw:
        try:
            heard.append(_heard(one))
        except NoAnswer as error:
            failed.append(str(error))
    return heard, failed


def run_one(port: int, ask: Ask) -> Heard:
    """One request. Raises NoAnswer."""
    heard, failed = run(port, [[ask]])
    if failed:
        raise NoAnswer(failed[0])
    return heard[0]


def first_text(port: int, ask: Ask, timeout: float) -> float | None:
    """The monotonic time at which the first text came; None where the server is not ready."""
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(ask.encode())
            while piece := connection.recv(_READ):
                received += piece
                if _has_text(received):
                    return time.monotonic()
    except OSError:
        return None
    return None


@dataclass(frozen=True)
class _Raw:
    """One answer as it came; `first` is when its first text did."""

    sent: float
    first: float | None
    ended: float
    content: bytes


class _Stream:
    """The requests of one stream, and the answer that is on its way."""

    def __init__(self, port: int, asks: Sequence[Ask], began: float) -> None:
        self._port = port
        self._asks = list(asks)
        self.due = began + asks[0].wait

    @property
    def more(self) -> bool:
        return bool(self._asks)

    def begin(self) -> socket.socket:
        self._content = b""
        self._first: float | None = None
        self._sent = time.monotonic()
        self._socket = socket.create_connection(("127.0.0.1", self._port), 10)
        self._socket.sendall(self._asks.pop(0).encode())
        return self._socket

    def receive(self) -> bool:
        """Take what is there; false at the end."""
        piece = self._socket.recv(_READ)
        self._at = time.monotonic()
        self._content += piece
        if self._first is None and _has_text(self._content):
            self._first = self._at
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _ASLEEP)
        return bool(piece)

    def ended(self) -> _Raw:
        self._socket.close()
        if self._asks:
            self.due = time.monotonic() + self._asks[0].wait
        return _Raw(self._sent, self._first, self._at, self._content)


def _heard(raw: _Raw) -> Heard:
    texts: list[str] = []
    tokens = None
    for event in _events(raw.content):
        if text := _text(event):
            texts.append(text)
        if isinstance(usage := event.get("usage"), dict):
            tokens = int(usage["completion_tokens"])
    if raw.first is None or not texts:
        raise NoAnswer(f"no text: {raw.content[-500:]!r}")
    tokens = len(texts) if tokens is None else tokens
    return Heard(raw.sent, raw.first - raw.sent, raw.ended - raw.sent, tokens, "".join(texts))


def _has_text(content: bytes) -> bool:
    """Whether there is text in what has come of an answer."""
    try:
        return any(_text(event) for event in _events(content))
    except NoAnswer:
        return False


def _events(content: bytes) -> list[dict[str, Any]]:
    """The server-sent events that are whole. Raises NoAnswer where it is no stream of them."""
    head, _, body = content.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise NoAnswer(f"{content[:500]!r}")
    if b"transfer-encoding: chunked" not in head.lower():
        raise NoAnswer(f"no stream: {head!r}")
    events = b"".join(_chunks(body)).replace(b"\r\n", b"\n").split(b"\n\n")[:-1]
    pieces = (event.strip().removeprefix(b"data:").strip() for event in events)
    return [json.loads(piece) for piece in pieces if piece.startswith(b"{")]


def _chunks(body: bytes) -> list[bytes]:
    """The chunks that are whole (RFC 9112, 7.1)."""
    found, place = [], 0
    while (line := body.find(b"\r\n", place)) >= 0:
        size = int(body[place:line].partition(b";")[0], 16)
        place = line + 2 + size
        if not size or place > len(body):
            break
        found.append(body[line + 2 : place])
        place += 2
    return found


def _text(event: dict[str, Any]) -> str:
    """The text in one event: of OpenAI's API, or of the textbook server."""
    if "error" in event:
        raise NoAnswer(json.dumps(event))
    for choice in event.get("choices", ()):
        return (choice.get("delta") or {}).get("content") or choice.get("text") or ""
    return str(event.get("text", ""))
