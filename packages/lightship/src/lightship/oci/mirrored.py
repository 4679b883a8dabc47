"""Pulling from wherever an image can be had: mirrors first, its own registry when they fail.

Each place has a login of its own, with the account that the user has there, so that no password goes astray. What
a mirror gives is verified by digest like anything else; only for a tag its word is taken, where its settings allow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lightship.errors import IntegrityError, NetworkError
from lightship.oci.mirrors import places
from lightship.oci.name import Reference
from lightship.oci.published import Descriptor, Source
from lightship.oci.registry import RegistrySource
from lightship.session import Session

Result = TypeVar("Result")


def registry_source(reference: Reference, session: Session, *, plain_http: bool = False) -> Source:
    """An image in a registry, or in the mirrors that the user has for it. Raises as `places`."""
    found = places(reference, session.environ)
    own = found[-1]
    origin = RegistrySource(own.reference, session, plain_http=plain_http or own.plain_http)
    if len(found) == 1:
        return origin
    mirrors = [
        (RegistrySource(place.reference, session, plain_http=place.plain_http), place.may_name(reference))
        for place in found[:-1]
        if place.pulls != "tag-only" or reference.digest is None
    ]
    return _MirroredSource(reference, mirrors, origin, session)


class _MirroredSource:
    """Asks one place after the other. A place that failed is not asked again for this image."""

    def __init__(
        self,
        reference: Reference,
        mirrors: Sequence[tuple[RegistrySource, bool]],
        origin: RegistrySource,
        session: Session,
    ) -> None:
        self._reference = reference
        self._mirrors = list(mirrors)
        self._origin = origin
        self._session = session

    def __str__(self) -> str:
        return str(self._reference)

    def top(self) -> bytes:
        return self._first(lambda source: source.top(), naming=self._reference.digest is None)

    def document(self, descriptor: Descriptor) -> bytes:
        return self._first(lambda source: source.document(descriptor), naming=False)

    def pull(self, layers: Sequence[Descriptor], session: Session) -> None:
        # What one place has given is in the cache, and the next one is asked for the rest only.
        self._first(lambda source: source.pull(layers, session), naming=False)

    def _first(self, ask: Callable[[RegistrySource], Result], *, naming: bool) -> Result:
        for mirror in list(self._mirrors):
            source, may_name = mirror
            if naming and not may_name:
                continue
            try:
                return ask(source)
            except (NetworkError, IntegrityError) as error:
                self._mirrors.remove(mirror)
                self._session.progress.note(f"{source.reference.registry} is passed over: {error.message}")
        return ask(self._origin)
