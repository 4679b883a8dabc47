"""Pulling from a registry: the distribution specification's read side, on top of the downloads that all parts share.

Parallel transfers, resuming, retries, proxies and certificates are `download`'s; requests and the login are those of
a `repository`. HTTPS everywhere; plain HTTP only on this machine's own addresses, as engines do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from lightship.download import GoneError, download_all
from lightship.errors import IntegrityError
from lightship.oci.image import digest_of
from lightship.oci.login import RegistryLogin
from lightship.oci.name import Reference
from lightship.oci.published import INDEX_TYPES, MANIFEST_TYPES, MAX_DOCUMENT, Descriptor, layer_download
from lightship.oci.repository import Repository
from lightship.session import Session
from lightship.transfer import LONG_PATIENCE


class RegistrySource:
    """An image in a registry, as a `published.Source`. Asks for a token when it is first used."""

    def __init__(self, reference: Reference, session: Session, *, plain_http: bool = False) -> None:
        self.reference = reference
        self._session = session
        self._login = RegistryLogin(reference, session, plain_http=plain_http)

    def __str__(self) -> str:
        return str(self.reference)

    def top(self) -> bytes:
        content = self._fetch(f"manifests/{self.reference.target}", MAX_DOCUMENT, None)
        if self.reference.digest and digest_of(content) != self.reference.digest:
            raise IntegrityError(
                f"The registry gave another manifest than {self.reference} names: {digest_of(content)}.",
                hint="The registry, or something between you and it, is damaged.",
            )
        return content

    def document(self, descriptor: Descriptor) -> bytes:
        is_manifest = descriptor.media_type in (*MANIFEST_TYPES, *INDEX_TYPES)
        path = f"{'manifests' if is_manifest else 'blobs'}/{descriptor.digest}"
        return self._fetch(path, descriptor.size, descriptor.digest)

    def pull(self, layers: Sequence[Descriptor], session: Session) -> None:
        missing = [layer for layer in layers if not session.cache.has_blob(layer.digest, layer.size)]
        if not missing:
            return
        with closing(Repository(self.reference, session, self._login)) as repository:
            downloads = [layer_download(layer, repository.url(f"blobs/{layer.digest}")) for layer in missing]
            title = f"{len(missing)} layers of {self.reference.repository}"
            download_all(downloads, session, title=title, login=repository.login, patience=LONG_PATIENCE)

    def _fetch(self, path: str, limit: int, digest: str | None) -> bytes:
        try:
            with closing(Repository(self.reference, self._session, self._login)) as repository:
                return repository.document(path, limit, digest)
        except GoneError as error:
            raise GoneError(
                f"The registry has no {self.reference} ({path} is not there).",
                hint="Check its spelling; a private image may look like none to those who may not read it "
                f"(`docker login {self.reference.registry}`).",
            ) from error
