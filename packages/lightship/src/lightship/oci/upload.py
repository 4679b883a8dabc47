"""One blob into a repository: left alone where it is there, mounted, or sent; a cut upload goes on where it broke.

The protocol is the distribution specification's ("Pushing blobs"). The body goes in one PUT, which every registry
takes; some refuse PATCH, or chunks that are too small or too large. Only after a cut connection is the upload session
asked for what it has, and the rest sent by PATCH; a registry that does not like that gets the whole once more.
(Distribution 2.8 is one: an address of its sessions is good for one offset only, and it drops the rest with a 404.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from lightship.oci.repository import Answer, Repository, announced_digest
from lightship.transport import Body, TransferError

_PIECE = 1 << 20  # bytes read and sent at a time
_RESTARTS = 3  # uploads begun anew because the registry lost the last one, or got other bytes than were sent
_LOST = frozenset({400, 404, 416})  # answers to a session that is gone, is elsewhere, or holds the wrong bytes
_SESSION_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")


@dataclass(frozen=True)
class Blob:
    """What shall be in the repository; `open` gives its bytes from the beginning."""

    digest: str
    size: int
    open: Callable[[], BinaryIO]
    title: str


class Outcome(StrEnum):
    """How a blob came to be in the repository."""

    THERE = "there"
    MOUNTED = "mounted"
    SENT = "sent"


def upload(
    blob: Blob, repository: Repository, advance: Callable[[int], None], *, mounted: Sequence[str] = ()
) -> Outcome:
    """Make sure that a blob is in the repository.

    Args:
        advance: Is told of bytes that are there, each once.
        mounted: Repositories of the same registry that may hold it.

    Raises: `TransferError`.
    """
    work = _Upload(blob, repository, advance)
    outcome = Outcome.THERE if work.exists() else work.mount(mounted) or work.send()
    work.reach(blob.size)
    return outcome


class _Upload:
    def __init__(self, blob: Blob, repository: Repository, advance: Callable[[int], None]) -> None:
        self._blob = blob
        self._repository = repository
        self._advance = advance
        self._told = 0  # bytes that `advance` knows of
        self._session: str | None = None  # its address
        self._interrupted = False  # whether the session may hold a part
        self._resumes = True
        self._kept = 0  # bytes that the registry had when it was last asked
        self._restarts = 0

    def exists(self) -> bool:
        answer = self._repository.asked("HEAD", f"blobs/{self._blob.digest}", accepted=(200, 404))
        return answer.status == 200 and announced_digest(answer) in (None, self._blob.digest)

    def mount(self, repositories: Sequence[str]) -> Outcome | None:
        """Take the blob over from one of the repositories; else an upload has begun, or is yet to begin."""
        for name in repositories:
            query = f"?mount={quote(self._blob.digest)}&from={quote(name, safe='')}"
            try:
                answer = self._begin(query, accepted=(201, 202))
            except TransferError as error:
                if error.kind == "unreachable":
                    raise
                continue  # it may refuse what it does not know
            if answer.status == 201:
                return Outcome.MOUNTED
        return None

    def send(self) -> Outcome:
        self._repository.again(self._attempt, lambda: self._kept)
        return Outcome.SENT

    def _begin(self, query: str = "", accepted: Iterable[int] = (202,)) -> Answer:
        path = f"blobs/uploads/{query}"
        answer = self._repository.asked("POST", path, accepted=tuple(accepted))
        if answer.status == 202:
            self._session = self._repository.where(answer, self._repository.url(path))
            self._interrupted = False
        return answer

    def _attempt(self) -> None:
        if self._interrupted and self.exists():
            return  # only the answer was lost
        start = self._resumed() if self._interrupted else 0
        if self._session is None:
            self._begin()
        self._interrupted = True
        try:
            if start:
                self._patch(start)
            self._put(start)
        except TransferError as error:
            if start and error.status is not None:
                self._resumes = False
            if error.status in _LOST or error.kind == "corrupt":
                self._session = None
                self._restarts += 1
                error.retry = self._restarts <= _RESTARTS
            raise

    def _resumed(self) -> int:
        """How many bytes an interrupted session holds; 0 and no session where it is better to begin anew."""
        address, self._session = self._session, None
        if address is None or not self._resumes:
            return 0
        try:
            answer = self._repository.again(lambda: self._repository.send("GET", address, accepted=(204,)))
            found = _SESSION_RANGE.fullmatch(answer.headers.get("Range", ""))
            held = int(found[1]) + 1 if found else 0
            # Nothing at all is told as 0-0 as well.
            if 1 < held <= self._blob.size:
                self._session = self._repository.where(answer, address) if "Location" in answer.headers else address
                self._kept = held
                self.reach(held)
                return held
        except TransferError as error:
            if error.kind == "unreachable":
                raise
            self._resumes = False
        return 0

    def _patch(self, start: int) -> None:
        size = self._blob.size - start
        if size == 0:
            return
        address = self._address()
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Range": f"{start}-{self._blob.size - 1}",
        }
        answer = self._repository.send("PATCH", address, headers, body=self._body(start), accepted=(202,))
        self._session = self._repository.where(answer, address)

    def _put(self, start: int) -> None:
        """Close the session, with the whole body where none of it is there."""
        address = with_digest(self._address(), self._blob.digest)
        size = 0 if start else self._blob.size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        body = self._body(0) if size else None
        answer = self._repository.send("PUT", address, headers, body=body, accepted=(201,))
        if announced_digest(answer) not in (None, self._blob.digest):
            raise TransferError(f"the registry says that it has got {announced_digest(answer)}", "corrupt")

    def _address(self) -> str:
        assert self._session is not None
        return self._session

    def _body(self, start: int) -> Body:
        def pieces() -> Iterator[bytes]:
            sent = start
            try:
                with self._blob.open() as file:
                    file.seek(start)
                    while piece := file.read(min(_PIECE, self._blob.size - sent)):
                        if self._repository.again.stopped:
                            raise TransferError("stopped", "unreachable")
                        yield piece
                        sent += len(piece)
                        self.reach(sent)
            except OSError as error:  # of our own file: the connection would be blamed for it
                raise TransferError(f"{error.filename or 'it'}: {error.strerror}", "refused") from error
            if sent != self._blob.size:
                raise TransferError(f"it has {sent} bytes here instead of {self._blob.size}", "refused")

        return pieces

    def reach(self, position: int) -> None:
        """Tell of the bytes up to a position, where that is news."""
        if position > self._told:
            self._advance(position - self._told)
            self._told = position


def with_digest(address: str, digest: str) -> str:
    """The address of an upload session, asked to close with what the digest names.

    >>> with_digest("https://example.org/upload/1?state=a%3Db", "sha256:00")
    'https://example.org/upload/1?state=a%3Db&digest=sha256:00'
    """
    split = urlsplit(address)
    query = f"{split.query}&" if split.query else ""
    return urlunsplit(split._replace(query=f"{query}digest={digest}"))
