"""One URL read to its end: retries with jitter, resumption by Range, local files, and a way to stop it all.

A `Reader` knows nothing of hashes and caches; `download` gives it something that receives pieces.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from lightship.cache import CHUNK
from lightship.session import Session
from lightship.transport import Credentials, TransferError, Transport, connection_failure

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CONNECTIONS = 8  # at once; more gains nothing on one host and looks like an attack to some mirrors
ATTEMPTS = 4  # per URL without any progress
_FIRST_PAUSE = 0.25  # seconds before the second attempt; doubles from there
_DOUBLINGS = 4
_LONGEST_PAUSE = 20.0  # seconds, also where the server asks for more
_PIECE = 1 << 18  # bytes read at a time, so that progress is seen on slow lines
_WORTH_A_RETRY = 1 << 20  # bytes of progress after which a connection has earned a fresh set of attempts
_ONLY_GET = frozenset({403, 405, 501})  # what signed addresses and simple servers answer to HEAD
_RANGE_NOT_SATISFIABLE = 416

_T = TypeVar("_T")


class Login(Protocol):
    """Headers that let us in, and that may have to be renewed while much is read. Safe for several threads."""

    def headers(self) -> Mapping[str, str]:
        """What to send with a request."""
        ...

    def renew(self, refused: Mapping[str, str], challenge: str | None) -> bool:
        """Make other headers than those that a 401 refused; False where there are none."""
        ...

    def accepted(self) -> None:
        """Hear that the headers were good for something."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Headers that stay as they are."""

    fixed: Mapping[str, str]

    def headers(self) -> Mapping[str, str]:
        return self.fixed

    def renew(self, refused: Mapping[str, str], challenge: str | None) -> bool:
        return False

    def accepted(self) -> None:
        pass


@dataclass(frozen=True)
class Patience:
    """How often to try without any progress, and how often of these after wrong bytes."""

    attempts: int = ATTEMPTS
    wrong_bytes: int = 0


USUAL_PATIENCE = Patience()
LONG_PATIENCE = Patience(attempts=8, wrong_bytes=3)  # a registry that fails a fifth of its requests is of use


class Retry:
    """Tries again where that may help, with pauses that grow and differ, until it is stopped."""

    def __init__(self, patience: Patience = USUAL_PATIENCE) -> None:
        self._patience = patience
        self._stop = threading.Event()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """End the pauses and allow no further attempt."""
        self._stop.set()

    def __call__(self, attempt: Callable[[], _T], received: Callable[[], int] = lambda: 0) -> _T:
        """What `attempt` returns, tried again: the more it has received, the more patiently.

        The last `TransferError` is raised as one that is not to be retried by anybody else.
        """
        failed = corrupt = 0
        best = received()
        while True:
            try:
                return attempt()
            except TransferError as error:
                failed = 1 if received() >= best + _WORTH_A_RETRY else failed + 1
                best = max(best, received())
                corrupt += error.kind == "corrupt"
                allowed = self._patience.attempts if error.connected else ATTEMPTS
                again = error.retry or (error.kind == "corrupt" and corrupt <= self._patience.wrong_bytes)
                if not again or failed >= allowed or self._stop.wait(_pause(error, failed)):
                    error.retry = False
                    raise


def _pause(error: TransferError, failed: int) -> float:
    pause = _FIRST_PAUSE * float(1 << min(failed - 1, _DOUBLINGS)) * random.uniform(0.5, 1.5)  # noqa: S311
    return min(max(error.wait, pause), _LONGEST_PAUSE)


class Reader:
    """Reads URLs, again where that may help, until it is closed."""

    def __init__(
        self,
        session: Session,
        credentials: Credentials | None,
        headers: Mapping[str, str] | None = None,
        *,
        login: Login | None = None,
        patience: Patience = USUAL_PATIENCE,
    ) -> None:
        self._transport = Transport(session.environ, CONNECTIONS, credentials)
        self._headers = dict(headers or {})
        self._login = login or Fixed({})
        self.again = Retry(patience)
        self._offline = session.offline
        self._open_responses: set[BaseHTTPResponse] = set()

    def close(self) -> None:
        """Stop what is under way in other threads, without waiting for a slow server, and close all connections."""
        self.again.stop()
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

    def size(self, url: str) -> int | None:
        """How many bytes lie at a URL; None where the server does not say. Asks by HEAD, else for the first byte."""
        if (path := local_path(url)) is not None:
            with _local(path) as file:
                return os.fstat(file.fileno()).st_size
        if self._offline:
            raise TransferError("offline and not in the cache", "unreachable")
        try:
            with closing(self._open_url(url, method="HEAD")) as response:
                return _number(response.headers.get("Content-Length", "")) or None
        except TransferError as error:
            if error.status not in _ONLY_GET:
                raise
        with closing(self._open_url(url, {"Range": "bytes=0-0"})) as response:
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
                return self._open_url(url, part)
            except TransferError as error:
                if error.status != _RANGE_NOT_SATISFIABLE:
                    raise
        return self._open_url(url)

    def _open_url(self, url: str, more: Mapping[str, str] | None = None, method: str = "GET") -> BaseHTTPResponse:
        return entered(
            self._login,
            lambda headers: self._transport.open(url, {**self._headers, **(more or {}), **headers}, method),
        )

    def _pieces(self, read: Callable[[], bytes]) -> Iterator[bytes]:
        while piece := read():
            if self.again.stopped:
                raise TransferError("stopped", "unreachable")
            yield piece


def entered(login: Login, request: Callable[[Mapping[str, str]], _T]) -> _T:
    """What `request(headers)` returns; asked anew with a renewed login where the last one was refused."""
    while True:
        headers = login.headers()
        try:
            answer = request(headers)
        except TransferError as error:
            if error.status != 401 or not login.renew(headers, error.challenge):
                raise
        else:
            login.accepted()
            return answer


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
