"""Being let into a registry, and staying in: its challenge answered when it is first used, again when a token ends.

Tokens live for minutes and an upload may take an hour, so a 401 in the middle of the work is nothing special. Whoever
meets one asks for a renewal; of several threads that meet it at once, one renews and the others take what it got.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import closing

from lightship.errors import NetworkError
from lightship.oci.credentials import authorization, find_account
from lightship.oci.name import Reference, is_loopback
from lightship.session import Session
from lightship.transport import TransferError, Transport

RENEWALS = 3  # tokens that may be refused one after another, before we believe that there is no right to enter


class RegistryLogin:
    """The headers for one repository of a registry, as a `transfer.Login`.

    Args:
        actions: What shall be allowed there: `pull`, or `pull,push`.
        mounted: Other repositories of the registry whose blobs shall be readable too.
        plain_http: Whether the user lets this registry be spoken to without TLS.
    """

    def __init__(
        self,
        reference: Reference,
        session: Session,
        *,
        actions: str = "pull",
        mounted: Sequence[str] = (),
        plain_http: bool = False,
    ) -> None:
        self._reference = reference
        self._session = session
        self._scopes = (
            f"repository:{reference.repository}:{actions}",
            *(f"repository:{name}:pull" for name in mounted),
        )
        self._plain_http = plain_http
        self._lock = threading.Lock()
        self._headers: dict[str, str] | None = None
        self._refused = 0

    @property
    def root(self) -> str:
        """Where the registry's HTTP interface begins."""
        host = self._reference.host
        return f"{'http' if self._plain_http or is_loopback(host) else 'https'}://{host}"

    def headers(self) -> Mapping[str, str]:
        with self._lock:
            if self._headers is None:
                challenge = self._challenge()
                self._headers = self._answer(challenge) if challenge else {}
            return self._headers

    def renew(self, refused: Mapping[str, str], challenge: str | None) -> bool:
        with self._lock:
            if self._headers is not None and self._headers != refused:
                return True  # another thread was faster
            if not challenge or self._refused >= RENEWALS:
                return False
            self._refused += 1
            answer = self._answer(challenge)
            if not answer or answer == refused:
                return False
            self._headers = answer
            return True

    def accepted(self) -> None:
        """Say that the headers were good for something."""
        self._refused = 0

    def _answer(self, challenge: str) -> dict[str, str]:
        account = find_account(self._reference, self._session.environ)
        header = authorization(
            challenge,
            self._reference,
            account,
            self._session,
            scopes=self._scopes,
            plain_http=self._plain_http,
        )
        return {"Authorization": header} if header else {}

    def _challenge(self) -> str | None:
        """What the registry wants to see; None where it says nothing, and its next answer will tell."""
        if self._session.offline:
            return None
        with closing(Transport(self._session.environ, 1)) as transport:
            try:
                transport.open(f"{self.root}/v2/").close()
            except TransferError as error:
                if error.status == 401:
                    return error.challenge
                if error.status is None and not error.retry:
                    raise NetworkError(
                        f"The registry {self._reference.registry} cannot be used: {error.reason}."
                    ) from error
        return None
