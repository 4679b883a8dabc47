"""Files from the network into the cache: in parallel, verified by sha256 while they stream, resumed when cut.

A `Download` says where a file may be had and what its bytes must hash to. Nothing that does not is ever kept, and
nothing of the size of a file is ever held in memory. URLs are http, https or file; a plain path works as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lightship.cache import Cache, storing
from lightship.errors import IntegrityError, LightshipError, NetworkError
from lightship.session import Session
from lightship.transfer import CONNECTIONS, USUAL_PATIENCE, Login, Patience, Reader
from lightship.transport import Credentials, TransferError, masked

if TYPE_CHECKING:
    from concurrent.futures import Future


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
    login: Login | None = None,
    patience: Patience = USUAL_PATIENCE,
    arrived: Callable[[str], None] = lambda sha256: None,
) -> dict[str, Path]:
    """Fetch what the cache does not hold yet.

    Args:
        title: What is being fetched as a whole, for the progress display.
        credentials: User names and passwords by origin, for URLs that carry none.
        login: Its headers are sent with every request; an Authorization is not sent on to where a redirect leads.
        patience: How often to try again.
        arrived: Is told of each file, by its sha256, when it has come; from several threads.

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
        with (
            session.progress.task(name, total) as task,
            closing(Reader(session, credentials, login=login, patience=patience)) as reader,
        ):
            _all_of(missing, reader, cache, task.advance, arrived)
    return {sha256: cache.blob_path(download.digest) for sha256, download in wanted.items()}


def fetch_bytes(
    url: str,
    session: Session,
    *,
    limit: int,
    accept: str | None = None,
    credentials: Credentials | None = None,
    headers: Mapping[str, str] | None = None,
    patience: Patience = USUAL_PATIENCE,
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
    with closing(Reader(session, credentials, asked, patience=patience)) as reader:
        try:
            reader.read(url, collect, lambda: 0)
        except TransferError as error:
            raise _failure(
                Download((url,), "", None, "it"), [(url, error)], f"Could not read {masked(url)}"
            ) from error
    return bytes(content)


def content_sizes(urls: Iterable[str], session: Session, *, credentials: Credentials | None = None) -> dict[str, int]:
    """The size in bytes of what lies at each URL, without reading it; URLs whose server does not say are left out.

    Raises: `GoneError`, `NetworkError`.
    """
    from concurrent.futures import ThreadPoolExecutor

    executor = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="size")
    with closing(Reader(session, credentials)) as reader:
        try:
            futures = {url: executor.submit(_size_of, url, reader) for url in urls}
            sizes = {url: future.result() for url, future in futures.items()}
        finally:
            reader.close()
            executor.shutdown(cancel_futures=True)
    return {url: size for url, size in sizes.items() if size is not None}


def _size_of(url: str, reader: Reader) -> int | None:
    try:
        return reader.again(lambda: reader.size(url))
    except TransferError as error:
        title = masked(url).rpartition("/")[2]
        raise _failure(
            Download((url,), "", None, title), [(url, error)], f"Could not ask for the size of {title}"
        ) from error


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


def _all_of(
    downloads: Sequence[Download],
    reader: Reader,
    cache: Cache,
    advance: Callable[[int], None],
    arrived: Callable[[str], None],
) -> None:
    """Fetch all, the largest first. What is gone is gathered, so that one error names all of it."""
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    largest_first = sorted(downloads, key=lambda download: -(download.size or 0))
    executor = ThreadPoolExecutor(min(CONNECTIONS, len(downloads)), thread_name_prefix="download")
    try:
        futures: list[Future[GoneError | None]] = [
            executor.submit(_unless_gone, download, reader, cache, advance, arrived) for download in largest_first
        ]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        gone = [error for future in futures if future in done and (error := future.result()) is not None]
    finally:
        reader.close()
        executor.shutdown(cancel_futures=True)
    if len(gone) == 1:
        raise gone[0]
    if gone:
        message = "\n".join(error.message for error in gone)
        raise GoneError(message, [download for error in gone for download in error.downloads], hint=gone[0].hint)


def _unless_gone(
    download: Download,
    reader: Reader,
    cache: Cache,
    advance: Callable[[int], None],
    arrived: Callable[[str], None],
) -> GoneError | None:
    try:
        _one(download, reader, cache, advance)
    except GoneError as error:
        return error
    arrived(download.sha256)
    return None


def _one(download: Download, reader: Reader, cache: Cache, advance: Callable[[int], None]) -> None:
    failures: list[tuple[str, TransferError]] = []
    with cache.temporary_file() as path, storing(path):
        with path.open("w+b") as file:
            partial = _Partial(file, path, download, advance)
            for url in download.urls:
                try:
                    reader.read(url, partial.receive, lambda: partial.size)
                    break
                except TransferError as error:
                    failures.append((url, error))
            else:
                raise _failure(download, failures, f"Could not download {download.title}")
        cache.keep_file(path, download.digest)


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
