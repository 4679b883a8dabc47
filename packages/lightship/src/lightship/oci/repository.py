"""One repository of a registry and the requests that it takes: let in, tried again, with small answers read whole.

The endpoints are those of the distribution specification (spec.md, "Endpoints"). What is said here about one request
holds for pulling and for pushing; large bodies are `download`'s on their way in and `upload`'s on their way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from lightship.download import GoneError
from lightship.errors import IntegrityError, LightshipError, NetworkError
from lightship.oci.image import digest_of
from lightship.oci.login import RegistryLogin
from lightship.oci.name import Reference, is_loopback
from lightship.oci.published import INDEX_TYPES, MANIFEST_TYPES
from lightship.session import Session
from lightship.transfer import LONG_PATIENCE, Retry, entered
from lightship.transport import Body, TransferError, Transport, masked, origin_of, read_answer

MAX_ANSWER = 64 << 10  # bytes of an answer whose body is of no interest
DIGEST_HEADER = "Docker-Content-Digest"
_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """What a registry said; the headers' names are of any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes = b""


class Repository:
    """Requests to one repository. Safe for several threads; close it at the end."""

    def __init__(
        self,
        reference: Reference,
        session: Session,
        login: RegistryLogin,
        *,
        connections: int = 1,
    ) -> None:
        self.reference = reference
        self.login = login
        self.again = Retry(LONG_PATIENCE)
        self._offline = session.offline
        self._transport = Transport(session.environ, connections)

    def close(self) -> None:
        """Begin nothing new, and close the connections."""
        self.again.stop()
        self._transport.close()

    def url(self, path: str) -> str:
        """The address of `blobs/...`, `manifests/...` in this repository."""
        return f"{self.login.root}/v2/{self.reference.repository}/{path}"

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: Body | None = None,
        accepted: Collection[int],
        limit: int = MAX_ANSWER,
    ) -> Answer:
        """Make one request, with one login after another where one has ended. Raises `TransferError`."""
        if self._offline:
            raise TransferError("offline", "unreachable")
        ours = origin_of(url) == origin_of(self.login.root)

        def request(login: Mapping[str, str]) -> Answer:
            sent = {**(headers or {}), **(login if ours else {})}
            response = self._transport.open(url, sent, method, body=body, accepted=accepted)
            content = read_answer(response, limit) if method != "HEAD" else b""
            response.release_conn()
            return Answer(response.status, response.headers, content)

        return entered(self.login, request) if ours else request({})

    def asked(self, method: str, path: str, *, accepted: Collection[int]) -> Answer:
        """`send` for a path of this repository and without a body, again where that may help."""
        return self.again(lambda: self.send(method, self.url(path), accepted=accepted))

    def document(self, path: str, limit: int, digest: str | None) -> bytes:
        """A manifest or a config that hashes to its digest, or to the one that the registry announces with it.

        Raises: `GoneError`, `NetworkError`, `IntegrityError`.
        """

        def attempt() -> bytes:
            answer = self.send("GET", self.url(path), {"Accept": _ACCEPT}, accepted=(200,), limit=limit)
            wanted = digest or announced_digest(answer)
            if wanted and digest_of(answer.content) != wanted:
                raise TransferError(f"its bytes hash to {digest_of(answer.content)}, not to {wanted}", "corrupt")
            return answer.content

        return self.saying(f"Could not read {path} of {self.reference}", lambda: self.again(attempt))

    def has_manifest(self, digest: str) -> bool:
        """Whether a manifest is there. Raises `NetworkError`."""
        url, headers = self.url(f"manifests/{digest}"), {"Accept": _ACCEPT}

        def attempt() -> bool:
            return self.send("HEAD", url, headers, accepted=(200, 404)).status == 200

        return self.saying(f"Could not ask for {self.reference.name}@{digest}", lambda: self.again(attempt))

    def put_manifest(
        self,
        target: str,
        media_type: str,
        content: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        accepted: Collection[int] = (201,),
    ) -> Answer:
        """Name a manifest or an index by a tag or its digest, and see that the registry holds the one that we mean.

        Raises: `NetworkError`, `IntegrityError`.
        """
        url, digest = self.url(f"manifests/{target}"), digest_of(content)
        sent = {**(headers or {}), "Content-Type": media_type, "Content-Length": str(len(content))}

        def attempt() -> Answer:
            answer = self.send("PUT", url, sent, body=lambda: [content], accepted=accepted)
            if answer.status == 201 and announced_digest(answer) not in (None, digest):
                raise TransferError(f"the registry says that it has got {announced_digest(answer)}", "corrupt")
            return answer

        answer = self.saying(
            f"Could not push the manifest {self.reference.name}:{target}", lambda: self.again(attempt)
        )
        if answer.status == 201 and announced_digest(answer) is None:
            self.document(f"manifests/{digest}", len(content), digest)
        return answer

    def where(self, answer: Answer, url: str) -> str:
        """The address that an answer sends us to: absolute or relative, in any case one that we may go to.

        A registry elsewhere has nothing to say about this machine's own addresses, and nothing to send in the clear.
        """
        location = answer.headers.get("Location", "")
        try:
            target = urljoin(url, location)
            split = urlsplit(target)
            local = is_loopback(split.netloc.rpartition("@")[2])
        except ValueError:
            raise TransferError("the registry named an address that is none", "refused") from None
        secure = split.scheme == "https" or (split.scheme == "http" and self.login.root.startswith("http:"))
        if not location or not secure or not split.hostname or (local and not is_loopback(self.reference.host)):
            raise TransferError(f"the registry sent us to {masked(target) if location else 'no address'}", "refused")
        return target

    def saying(self, what: str, work: Callable[[], _T]) -> _T:
        """The result of the work; a `TransferError` becomes the error that tells the user what it means."""
        try:
            return work()
        except TransferError as error:
            raise self.failure(what, error) from error

    def failure(self, what: str, error: TransferError) -> LightshipError:
        """What to tell the user of a request that failed for good."""
        told = _told(error.detail)
        message = f"{what}: {error.reason}{f' ({told})' if told else ''}."
        registry = self.reference.registry
        if error.kind == "corrupt":
            return IntegrityError(message, hint="The registry, or something between you and it, is damaged.")
        if error.reason == "offline":
            return NetworkError(message, hint="Run without --offline.")
        if error.status in (401, 403):
            return NetworkError(message, hint=f"Log in with an account that may do this: `docker login {registry}`.")
        if error.kind == "gone":
            return GoneError(
                message,
                hint="Check its spelling; some registries want a repository to be created first, "
                f"and a private one may look like none to those who may not use it (`docker login {registry}`).",
            )
        if error.status == 413:
            return NetworkError(
                message, hint="The registry, or a proxy before it, does not take a blob of that size."
            )
        return NetworkError(message, hint="Check the network, the proxy settings and the credentials, and try again.")


def announced_digest(answer: Answer) -> str | None:
    """The digest that a registry gives with an answer, where it is of the kind that we can check."""
    digest = answer.headers.get(DIGEST_HEADER, "")
    return digest if digest.startswith("sha256:") else None


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: list[_Problem] = []


def _told(detail: bytes) -> str:
    """The first error of an answer in the distribution specification's form, fit to be shown."""
    try:
        problems = msgspec.json.decode(detail, type=_Problems).errors
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    text = f"{problems[0].code}: {problems[0].message}" if problems else ""
    return re.sub(r"[^\x20-\x7e]+", " ", text)[:200].strip(": ")
