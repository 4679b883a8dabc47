"""Where wheels may be had. Kept privately in the cache: the lock itself names no host.

An `Offer` is what an index (or a folder, or a lock of another tool) says of one file. What was offered is
remembered per index configuration, so that a build from a fresh lock asks nobody, and a changed configuration
never meets the addresses of the old one. No credentials are ever written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lightship.cache import Cache
from lightship.download import Download, content_sizes, download_all
from lightship.lock.file import LockedWheel
from lightship.lock.index import IndexConfiguration
from lightship.session import Session
from lightship.transport import without_credentials

_RECORDS = "wheel-sources"


@dataclass(frozen=True)
class Offer:
    """A wheel that can be had at `url` (or a plain path); `size` in bytes where it was told.

    `direct` is a wheel that the requirements name by its place instead of by its name.
    """

    name: str
    version: str
    file: str
    sha256: str
    url: str
    size: int | None = None
    direct: bool = False

    @property
    def download(self) -> Download:
        return Download((self.url,), self.sha256, self.size, f"{self.name} {self.version}")

    @property
    def requirement(self) -> str:
        """The requirement (PEP 508) that only this offer meets."""
        if not self.direct:
            return f"{self.name}=={self.version}"
        return f"{self.name} @ {self.url if '://' in self.url else 'file://' + self.url}"


def locked_wheels(offers: Iterable[Offer], session: Session, index: IndexConfiguration) -> tuple[LockedWheel, ...]:
    """The offers as they stand in a lock, by name. Sizes that nobody told are asked for; all is remembered."""
    chosen = _sized(sorted(offers, key=lambda offer: offer.name), session, index)
    for offer in chosen:
        remember(offer, session.cache, index)
    return tuple(
        LockedWheel(
            name=offer.name, version=offer.version, file=offer.file, size=offer.size or 0, sha256=offer.sha256
        )
        for offer in chosen
    )


def remember(offer: Offer, cache: Cache, index: IndexConfiguration) -> None:
    """Keep where a wheel may be had."""
    record = {"url": without_credentials(offer.url), "size": offer.size}
    key = _key(offer.sha256, index)
    if cache.read_record(_RECORDS, key) != record:
        cache.write_record(_RECORDS, key, record)


def recall(sha256: str, cache: Cache, index: IndexConfiguration) -> tuple[str, int | None] | None:
    """URL and size of a wheel as remembered, or None."""
    record = cache.read_record(_RECORDS, _key(sha256, index)) or {}
    url, size = record.get("url"), record.get("size")
    return (url, size if isinstance(size, int) else None) if isinstance(url, str) else None


def _key(sha256: str, index: IndexConfiguration) -> str:
    return f"{sha256}-{index.key}"


def _sized(offers: Sequence[Offer], session: Session, index: IndexConfiguration) -> list[Offer]:
    """Every offer with its size: from the offer, the cache or memory; else the server is asked."""
    known = {offer.sha256: _known_size(offer, session.cache, index) for offer in offers}
    unknown = {offer.url: offer for offer in offers if known[offer.sha256] is None}
    if unknown:
        told = content_sizes(unknown, session, credentials=index.credentials)
        known |= {unknown[url].sha256: size for url, size in told.items()}
        silent = [offer.download for url, offer in unknown.items() if url not in told]
        paths = download_all(silent, session, title="wheels of unknown size", credentials=index.credentials)
        known |= {sha256: path.stat().st_size for sha256, path in paths.items()}
    return [replace(offer, size=known[offer.sha256]) for offer in offers]


def _known_size(offer: Offer, cache: Cache, index: IndexConfiguration) -> int | None:
    if offer.size is not None:
        return offer.size
    digest = f"sha256:{offer.sha256}"
    if cache.has_blob(digest):
        return cache.blob_path(digest).stat().st_size
    remembered = recall(offer.sha256, cache, index)
    return remembered[1] if remembered else None
