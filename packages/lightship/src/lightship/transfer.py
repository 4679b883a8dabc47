"""One URL read to its end: retries with jitter, resumption by Range, local files, and a way to stop it all.

A `Reader` knows nothing of hashes and caches; `download` gives it something that receives pieces.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from lightship.cache import CHUNK
from lightship.session import Session
from lightship.transport import Credentials, TransferError, Transport, connection_failure

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CONNECTIONS = 8  # at once; more gains nothing on one host and looks like an attack to some mirrors
ATTEMPTS = 4  # per URL without any progress
_FIRST_PAUSE = 0.25  # seconds before the second attempt; doubles from there
_LONGEST_PAUSE = 20.0  # seconds, also where the server asks for more
_PIECE = 1 << 18  # bytes read at a time, so that progress is seen on slow lines
_WORTH_A_RETRY = 1 << 20  # bytes of progress after which a connection has earned a fresh set of attempts
_ONLY_GET = frozenset({403, 405, 501})  # what signed addresses and simple servers answer to HEAD
_RANGE_NOT_SATISFIABLE = 416

_T = TypeVar("_T")


class Reader:
    """Reads URLs, again where that may help, until it is closed."""

    def __init__(
        self, session: Session, credentials: Credentials | None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._transport = Transport(session.environ, CONNECTIONS, credentials)
        self._headers = dict(headers or {})
        self._offline = session.offline
        self._stop = threading.Event()
        self._open_responses: set[BaseHTTPResponse] = set()

    def close(self) -> None:
        """Stop what is under way in other threads, without waiting for a slow server, and close all connections."""
        self._stop.set()
        for response in tuple(self._open_responses):
            with suppress(OSError, ValueError, RuntimeError):  # it may end by itself at this very moment
                response.shutdown()
        self._transport.close()

    def read(self, url: str, receive: Callable[[int, Iterator[bytes]], None], received: Callable[[], int]) -> None:
        """Pass the content of a URL to `receive(start, pieces)`; `received()` bytes of it are there already."""
        tag = None

        def attempt() -> None:
            nonlocal tag
            with self._open(url, received(), tag) as (start, tag, pieces):
                receive(start, pieces)

        self.again(attempt, received)

    def again(self, attempt: Callable[[], _T], received: Callable[[], int] = lambda: 0) -> _T:
        """What `attempt` returns, tried again where that may help: the more it has received, the more patiently."""
        failed, best = 0, received()
        while True:
            try:
                return attempt()
            except TransferError as error:
                failed = 1 if received() >= best + _WORTH_A_RETRY else failed + 1
                best = max(best, received())
                if not error.retry or failed >= ATTEMPTS:
                    raise
                pause = max(error.wait, _FIRST_PAUSE * 2 ** (failed - 1) * random.uniform(0.5, 1.5))  # noqa: S311
                if self._stop.wait(min(pause, _LONGEST_PAUSE)):
                    raise

    def size(self, url: str) -> int | None:
        """How many bytes lie at a URL; None where the server does not say. Asks by HEAD, else for the first byte."""
        if (path := local_path(url)) is not None:
            with _local(path) as file:
                return os.fstat(file.fileno()).st_size
        if self._offline:
            raise TransferError("offline and not in the cache", "unreachable")
        try:
            with closing(self._transport.open(url, self._headers, method="HEAD")) as response:
                return _number(response.headers.get("Content-Length", "")) or None
        except TransferError as error:
            if error.status not in _ONLY_GET:
                raise
        with closing(self._transport.open(url, self._headers | {"Range": "bytes=0-0"})) as response:
            if response.status == 206:
                return _number(response.headers.get("Content-Range", "").rpartition("/")[2])
            return _number(response.headers.get("Content-Length", ""))

    @contextmanager
    def _open(self, url: str, start: int, tag: str | None) -> Iterator[tuple[int, str | None, Iterator[bytes]]]:
        """The content from `start` on, or from where the source chose to begin, and the tag of its version."""
        if (path := local_path(url)) is not None:
            with _local(path) as file:
                yield 0, None, self._pieces(lambda: _read_local(file))
            return
        if self._offline:
            raise TransferError("offline and not in the cache", "unreachable")
        with closing(self._answer(url, start, tag)) as response:
            begins = _first_byte(response.headers.get("Content-Range", "")) if response.status == 206 else 0
            if begins not in (0, start):
                raise TransferError("the server sent another part of the file than was asked for", "refused")
            found = response.headers.get("ETag", "")
            tag = found if found.startswith('"') else None  # a weak tag does not stand for bytes (RFC 9110, 8.8.1)
            self._open_responses.add(response)
            try:
                yield begins, tag, self._pieces(lambda: _read_response(response))
            finally:
                self._open_responses.discard(response)

    def _answer(self, url: str, start: int, tag: str | None) -> BaseHTTPResponse:
        if start:
            part = {"Range": f"bytes={start}-"} | ({"If-Range": tag} if tag else {})
            try:
                return self._transport.open(url, self._headers | part)
            except TransferError as error:
                if error.status != _RANGE_NOT_SATISFIABLE:
                    raise
        return self._transport.open(url, self._headers)

    def _pieces(self, read: Callable[[], bytes]) -> Iterator[bytes]:
        while piece := read():
            if self._stop.is_set():
                raise TransferError("stopped", "unreachable")
            yield piece


def local_path(url: str) -> Path | None:
    """The path of a file URL or of a plain path; None for any other URL."""
    if url.startswith("file:"):
        return Path(unquote(urlsplit(url).path))
    return None if "://" in url else Path(url)


@contextmanager
def _local(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise TransferError("there is no such file", "gone") from None
    except OSError as error:
        raise TransferError(error.strerror or "cannot be read", "refused") from error
    with file:
        yield file


def _read_local(file: BinaryIO) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        raise TransferError(error.strerror or "cannot be read", "refused") from error


def _read_response(response: BaseHTTPResponse) -> bytes:
    from urllib3.exceptions import HTTPError

    try:
        return response.read(_PIECE, decode_content=False)
    except HTTPError as error:
        raise connection_failure(error) from error


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _first_byte(content_range: str) -> int:
    """Where a part begins, by its Content-Range header: `bytes 100-199/200`."""
    unit, _, part = content_range.partition(" ")
    start = part.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdigit() else -1
