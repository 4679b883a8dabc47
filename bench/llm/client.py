"""A client of streamed answers that costs little: it is on the same cores as the servers, and must not slow them.

While streams are on their way it only receives and looks at the clock; what came is taken apart afterwards.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_READ = 1 << 16  # bytes
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
        seconds: Seconds to the last text.
        tokens: As the server counts them.
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
                if any(_text(event) for _, event in _events(_Raw(0.0, received, [(len(received), 0.0)]))):
                    return time.monotonic()
    except (OSError, NoAnswer):
        return None
    return None


@dataclass
class _Raw:
    """One answer as it came: `marks` are the bytes that were there at each time."""

    sent: float
    content: bytes = b""
    marks: list[tuple[int, float]] = field(default_factory=list)

    def time_of(self, place: int) -> float:
        """When the byte before `place` came."""
        return next(at for there, at in self.marks if there >= place)


class _Stream:
    def __init__(self, port: int, asks: Sequence[Ask], began: float) -> None:
        self._port = port
        self._asks = list(asks)
        self.due = began + asks[0].wait

    @property
    def more(self) -> bool:
        return bool(self._asks)

    def begin(self) -> socket.socket:
        self._pieces: list[bytes] = []
        self._times: list[float] = []
        self._sent = time.monotonic()
        self._socket = socket.create_connection(("127.0.0.1", self._port), 10)
        self._socket.sendall(self._asks.pop(0).encode())
        return self._socket

    def receive(self) -> bool:
        piece = self._socket.recv(_READ)
        self._times.append(time.monotonic())
        self._pieces.append(piece)
        return bool(piece)

    def ended(self) -> _Raw:
        self._socket.close()
        if self._asks:
            self.due = time.monotonic() + self._asks[0].wait
        marks, there = [], 0
        for piece, at in zip(self._pieces, self._times, strict=True):
            there += len(piece)
            marks.append((there, at))
        return _Raw(self._sent, b"".join(self._pieces), marks)


def _heard(raw: _Raw) -> Heard:
    texts: list[tuple[float, str]] = []
    tokens = None
    for at, event in _events(raw):
        if text := _text(event):
            texts.append((at, text))
        if isinstance(usage := event.get("usage"), dict):
            tokens = int(usage["completion_tokens"])
    if not texts or tokens is None:
        raise NoAnswer(f"no text, or no count of tokens: {raw.content[-500:]!r}")
    text = "".join(text for _, text in texts)
    return Heard(raw.sent, texts[0][0] - raw.sent, texts[-1][0] - raw.sent, tokens, text)


def _events(raw: _Raw) -> list[tuple[float, dict[str, Any]]]:
    """The server-sent events with the times at which they were whole."""
    head, _, body = raw.content.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise NoAnswer(f"{raw.content[:500]!r}")
    if b"transfer-encoding: chunked" not in head.lower():
        raise NoAnswer(f"no stream: {head!r}")
    start = len(head) + 4
    found, rest = [], b""
    for end, content in _chunks(body):
        *whole, rest = (rest + content).split(b"\n\n")
        for event in whole:
            data = event.strip().removeprefix(b"data:").strip()
            if data.startswith(b"{"):
                found.append((raw.time_of(start + end), json.loads(data)))
    return found


def _chunks(body: bytes) -> list[tuple[int, bytes]]:
    """The chunks that are whole (RFC 9112, 7.1), and where each ends."""
    found, place = [], 0
    while (line := body.find(b"\r\n", place)) >= 0:
        size = int(body[place:line].partition(b";")[0], 16)
        place = line + 2 + size
        if not size or place > len(body):
            break
        found.append((place, body[line + 2 : place]))
        place += 2
    return found


def _text(event: dict[str, Any]) -> str:
    """The text in one event: of OpenAI's API, or of the textbook server."""
    if "error" in event:
        raise NoAnswer(json.dumps(event))
    for choice in event.get("choices", ()):
        return (choice.get("delta") or {}).get("content") or choice.get("text") or ""
    return str(event.get("text", ""))
