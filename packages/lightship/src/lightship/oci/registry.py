"""Pulling from a registry: the distribution specification's read side, on top of the downloads that all parts share.

Parallel transfers, resuming, retries, proxies and certificates are `download`'s. What is here is what is special
about a registry: where its documents and blobs are, and the token that it wants to see. HTTPS everywhere; plain HTTP
only on this machine's own addresses, as engines do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from lightship.download import GoneError, download_all, fetch_bytes
from lightship.errors import IntegrityError, NetworkError
from lightship.oci.credentials import authorization, find_account
from lightship.oci.image import digest_of
from lightship.oci.name import Reference, is_loopback
from lightship.oci.published import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_DOCUMENT,
    Descriptor,
    layer_download,
)
from lightship.session import Session
from lightship.transport import TransferError, Transport

_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))


class RegistrySource:
    """An image in a registry, as a `published.Source`. Asks for a token when it is first used."""

    def __init__(self, reference: Reference, session: Session) -> None:
        self.reference = reference
        self._session = session
        self._headers: dict[str, str] | None = None

    def __str__(self) -> str:
        return str(self.reference)

    def top(self) -> bytes:
        content = self._fetch(f"manifests/{self.reference.target}", MAX_DOCUMENT)
        if self.reference.digest and digest_of(content) != self.reference.digest:
            raise IntegrityError(
                f"The registry gave another manifest than {self.reference} names: {digest_of(content)}.",
                hint="The registry, or something between you and it, is damaged.",
            )
        return content

    def document(self, descriptor: Descriptor) -> bytes:
        is_manifest = descriptor.media_type in (*MANIFEST_TYPES, *INDEX_TYPES)
        return self._fetch(f"{'manifests' if is_manifest else 'blobs'}/{descriptor.digest}", descriptor.size)

    def pull(self, layers: Sequence[Descriptor], session: Session) -> None:
        missing = [layer for layer in layers if not session.cache.has_blob(layer.digest, layer.size)]
        if not missing:
            return
        downloads = [layer_download(layer, self._url(f"blobs/{layer.digest}")) for layer in missing]
        self._headers = None  # a token lives for minutes only, and these may be the first bytes for long
        title = f"{len(missing)} layers of {self.reference.repository}"
        download_all(downloads, session, title=title, headers=self._authorized())

    def _fetch(self, path: str, limit: int) -> bytes:
        try:
            return fetch_bytes(
                self._url(path), self._session, limit=limit, accept=_ACCEPT, headers=self._authorized()
            )
        except GoneError as error:
            raise GoneError(
                f"The registry has no {self.reference} ({path} is not there).",
                hint="Check its spelling; a private image may look like none to those who may not read it "
                f"(`docker login {self.reference.registry}`).",
            ) from error

    def _url(self, path: str) -> str:
        return f"{self._root()}/v2/{self.reference.repository}/{path}"

    def _root(self) -> str:
        host = self.reference.host
        return f"{'http' if is_loopback(host) else 'https'}://{host}"

    def _authorized(self) -> dict[str, str]:
        """The headers that let us in: none, or those that answer the registry's challenge."""
        if self._headers is None:
            header = self._ask_for_entry()
            self._headers = {"Authorization": header} if header else {}
        return self._headers

    def _ask_for_entry(self) -> str | None:
        if self._session.offline:
            return None
        with closing(Transport(self._session.environ, 1)) as transport:
            try:
                transport.open(f"{self._root()}/v2/").close()
            except TransferError as error:
                if error.status == 401 and error.challenge:
                    account = find_account(self.reference, self._session.environ)
                    return authorization(error.challenge, self.reference, account, self._session)
                if error.status is None and not error.retry:
                    raise NetworkError(
                        f"The registry {self.reference.registry} cannot be used: {error.reason}."
                    ) from error
        return None
