"""Files from the network into the cache: in parallel, verified by sha256 while they stream, resumed when cut.

A `Download` says where a file may be had and what its bytes must hash to. Nothing that does not is ever kept, and
nothing of the size of a file is ever held in memory. URLs are http, https or file; a plain path works as well.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import REQUESTED_RANGE_NOT_SATISFIABLE as RANGE_NOT_SATISFIABLE
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lightship.cache import CHUNK, storing
from lightship.errors import IntegrityError, LightshipError, NetworkError
from lightship.session import Session
from lightship.transport import Credentials, TransferError, Transport, connection_failure, masked

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_T = TypeVar("_T")

CONNECTIONS = 8  # at once; more gains nothing on one host and looks like an attack to some mirrors
ATTEMPTS = 5  # per URL without any progress
_FIRST_PAUSE = 0.25  # seconds before the second attempt; doubles from there
_LONGEST_PAUSE = 20.0  # seconds, also where the server asks for more
_PIECE = 1 << 18  # bytes read at a time, so that progress is seen on slow lines
_WORTH_A_RETRY = 1 << 20  # bytes of progress after which a connection has earned a fresh set of attempts


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Attributes:
        urls: Where it may be had; tried in order.
        sha256: What its bytes hash to, 64 hex digits.
        size: In bytes, where it is known.
        title: What it is, for people: `numpy 2.3.5`.
    """

    urls: tuple[str, ...]
    sha256: str
    size: int | None
    title: str

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"


class GoneError(NetworkError):
    """Files that are no longer (or never were) where they were looked for; `downloads` says which."""

    def __init__(self, message: str, downloads: Sequence[Download] = (), *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.downloads = tuple(downloads)


def download_all(
    downloads: Iterable[Download],
    session: Session,
    *,
    title: str | None = None,
    credentials: Credentials | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Path]:
    """Fetch what the cache does not hold yet.

    Args:
        title: What is being fetched as a whole, for the progress display.
        credentials: User names and passwords by origin, for URLs that carry none.
        headers: Sent with every request; an Authorization is not sent on to where a redirect leads.

    Returns: the blob of each download in the cache, by its sha256.

    Raises: `GoneError` naming every file that is no longer offered, `NetworkError`, `IntegrityError` where the bytes
        are not those expected, `StorageError` where the cache cannot take them.
    """
    wanted = {download.sha256: download for download in downloads}
    cache = session.cache
    missing = [download for download in wanted.values() if not cache.has_blob(download.digest, download.size)]
    if missing:
        sizes = [download.size for download in missing]
        total = sum(size for size in sizes if size is not None) if None not in sizes else None
        name = title or (missing[0].title if len(missing) == 1 else f"{len(missing)} files")
        with session.progress.task(name, total) as task, closing(_Fetcher(session, credentials, headers)) as fetcher:
            fetcher.advance = task.advance
            _all_of(missing, fetcher)
    return {sha256: cache.blob_path(download.digest) for sha256, download in wanted.items()}


def fetch_bytes(
    url: str,
    session: Session,
    *,
    limit: int,
    accept: str | None = None,
    credentials: Credentials | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The content of a URL, at most `limit` bytes; the caller verifies it.

    Raises: `GoneError`, `NetworkError`, and `IntegrityError` where there is more than `limit`.
    """
    content = bytearray()

    def collect(start: int, pieces: Iterator[bytes]) -> None:
        del content[start:]
        for piece in pieces:
            content.extend(piece)
            if len(content) > limit:
                raise TransferError(f"more than the {limit} bytes that are reasonable", "corrupt")

    asked = dict(headers or {}) | ({"Accept": accept} if accept else {})
    with closing(_Fetcher(session, credentials, asked)) as fetcher:
        try:
            fetcher.fetch(url, collect, lambda: 0)
        except TransferError as error:
            raise _failure(
                Download((url,), "", None, "it"), [(url, error)], f"Could not read {masked(url)}"
            ) from error
    return bytes(content)


def content_sizes(urls: Iterable[str], session: Session, *, credentials: Credentials | None = None) -> dict[str, int]:
    """The size in bytes of what lies at each URL, without reading it; URLs whose server does not say are left out.

    Raises: `GoneError`, `NetworkError`.
    """
    wanted = list(urls)
    if not wanted:
        return {}
    with (
        closing(_Fetcher(session, credentials)) as fetcher,
        ThreadPoolExecutor(min(CONNECTIONS, len(wanted)), thread_name_prefix="size") as executor,
    ):
        futures = {url: executor.submit(_size_of, url, fetcher) for url in wanted}
        try:
            sizes = {url: future.result() for url, future in futures.items()}
        except BaseException:
            fetcher.stop()
            executor.shutdown(cancel_futures=True)
            raise
    return {url: size for url, size in sizes.items() if size is not None}


class _Fetcher:
    """Reads URLs, again where that may help, until it is closed."""

    def __init__(
        self, session: Session, credentials: Credentials | None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._transport = Transport(session.environ, CONNECTIONS, credentials)
        self._headers = dict(headers or {})
        self._offline = session.offline
        self._stop = threading.Event()
        self.cache = session.cache
        self.advance: Callable[[int], None] = lambda amount: None

    def close(self) -> None:
        self._stop.set()
        self._transport.close()

    stop = close

    def fetch(self, url: str, receive: Callable[[int, Iterator[bytes]], None], received: Callable[[], int]) -> None:
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
                return _number(response.headers.get("Content-Length", ""))
        except TransferError as error:
            if error.status not in (403, 405, 501):  # signed addresses and some servers know GET only
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
            yield begins, found if found.startswith('"') else None, self._pieces(lambda: _read_response(response))

    def _answer(self, url: str, start: int, tag: str | None) -> BaseHTTPResponse:
        if start:
            part = {"Range": f"bytes={start}-"} | ({"If-Range": tag} if tag else {})
            try:
                return self._transport.open(url, self._headers | part)
            except TransferError as error:
                if error.status != RANGE_NOT_SATISFIABLE:
                    raise
        return self._transport.open(url, self._headers)

    def _pieces(self, read: Callable[[], bytes]) -> Iterator[bytes]:
        while piece := read():
            if self._stop.is_set():
                raise TransferError("stopped", "unreachable")
            yield piece


class _Partial:
    """What has arrived of one file so far: written and hashed as it comes, within the size it may have."""

    def __init__(self, file: BinaryIO, path: Path, download: Download, advance: Callable[[int], None]) -> None:
        self._file, self._path = file, path
        self._download, self._advance = download, advance
        self._hash = hashlib.sha256()
        self._told = 0
        self.size = 0
        self.resumed = False

    def restart(self) -> None:
        with storing(self._path):
            self._file.seek(0)
            self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0
        self.resumed = False

    def receive(self, start: int, pieces: Iterator[bytes]) -> None:
        """Take the rest of the file, from `start`, and check the whole."""
        if start == 0 and self.size:
            self.restart()
        self.resumed = start > 0
        limit = self._download.size
        for piece in pieces:
            self.size += len(piece)
            if limit is not None and self.size > limit:
                raise self._corrupt(f"more than the {limit} bytes expected")
            self._hash.update(piece)
            with storing(self._path):
                self._file.write(piece)
            if self.size > self._told:
                self._advance(self.size - self._told)
                self._told = self.size
        if limit is not None and self.size != limit:
            raise self._corrupt(f"{self.size} bytes instead of {limit}")
        if (found := self._hash.hexdigest()) != self._download.sha256:
            raise self._corrupt(f"sha256 is {found}, expected {self._download.sha256}")

    def _corrupt(self, reason: str) -> TransferError:
        """Wrong bytes. Where two answers were joined, one more attempt from the start is worth it."""
        again = self.resumed
        self.restart()
        return TransferError(reason, "corrupt", retry=again)


def _all_of(downloads: Sequence[Download], fetcher: _Fetcher) -> None:
    """Fetch all, the largest first. What is gone is gathered, so that one error names all of it."""
    largest_first = sorted(downloads, key=lambda download: -(download.size or 0))
    executor = ThreadPoolExecutor(min(CONNECTIONS, len(downloads)), thread_name_prefix="download")
    try:
        futures: list[Future[GoneError | None]] = [
            executor.submit(_unless_gone, download, fetcher) for download in largest_first
        ]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        gone = [error for future in futures if future in done and (error := future.result()) is not None]
    finally:
        fetcher.stop()
        executor.shutdown(cancel_futures=True)
    if len(gone) == 1:
        raise gone[0]
    if gone:
        message = "\n".join(error.message for error in gone)
        raise GoneError(message, [download for error in gone for download in error.downloads], hint=gone[0].hint)


def _size_of(url: str, fetcher: _Fetcher) -> int | None:
    try:
        return fetcher.again(lambda: fetcher.size(url))
    except TransferError as error:
        title = masked(url).rpartition("/")[2]
        raise _failure(
            Download((url,), "", None, title), [(url, error)], f"Could not ask for the size of {title}"
        ) from error


def _unless_gone(download: Download, fetcher: _Fetcher) -> GoneError | None:
    try:
        _one(download, fetcher)
    except GoneError as error:
        return error
    return None


def _one(download: Download, fetcher: _Fetcher) -> None:
    failures: list[tuple[str, TransferError]] = []
    with fetcher.cache.temporary_file() as path, storing(path):
        with path.open("w+b") as file:
            partial = _Partial(file, path, download, fetcher.advance)
            for url in download.urls:
                try:
                    fetcher.fetch(url, partial.receive, lambda: partial.size)
                    break
                except TransferError as error:
                    failures.append((url, error))
            else:
                raise _failure(download, failures, f"Could not download {download.title}")
        fetcher.cache.keep_file(path, download.digest)


def _failure(download: Download, failures: Sequence[tuple[str, TransferError]], message: str) -> LightshipError:
    """The error that tells what each URL answered."""
    told = "; ".join(f"{masked(url)}: {error.reason}" for url, error in failures) or "no URL is known for it"
    message = f"{message}: {told}."
    kinds = {error.kind for _, error in failures}
    if "corrupt" in kinds:
        return IntegrityError(
            message,
            hint="The file was changed at its source or on the way; a proxy's login page is a frequent cause.",
        )
    if kinds == {"gone"}:
        return GoneError(message, (download,))
    if any("offline" in error.reason for _, error in failures):
        return NetworkError(message, hint="Run once without --offline to fill the cache.")
    return NetworkError(message, hint="Check the network, the proxy settings and the credentials, and try again.")


# Sources of bytes


def local_path(url: str) -> Path | None:
    """The path of a file URL or of a plain path; None for any other URL."""
    if url.startswith("file:"):
        return Path(url2pathname(urlsplit(url).path))
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
