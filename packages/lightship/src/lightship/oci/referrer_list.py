"""The list of what refers to a manifest, as a registry gives it: by its own API, or as an index under a tag.

distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema". Both kinds of list come from outside and are
read with bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urljoin

import msgspec

from lightship.errors import IntegrityError
from lightship.oci.image import INDEX_TYPE, canonical_json, digest_of
from lightship.oci.published import MAX_DOCUMENT, Digest, Size, parse
from lightship.oci.repository import Answer, Repository, announced_digest
from lightship.transport import TransferError, origin_of

MAX_PAGES = 100  # of a registry's list
_WITHOUT_API = (400, 404, 405, 406, 501)  # what registries answer to a path that they do not know


class Referrer(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of a list of referrers; `artifact_type` is empty where the list does not tell."""

    media_type: str
    digest: Digest
    size: Size
    artifact_type: str = ""
    annotations: dict[str, str] | None = None


class ReferrerIndex(msgspec.Struct, frozen=True, rename="camel"):
    """An image index that lists referrers."""

    schema_version: int
    manifests: list[Referrer]
    media_type: str | None = None


def referrers_of(digest: str, repository: Repository, artifact_type: str | None = None) -> list[Referrer]:
    """What refers to a digest: the registry's own list, else the index under the fallback tag.

    A registry that does not know the filter gives entries of other types as well.

    Raises: `NetworkError`, `IntegrityError`.
    """
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    what = f"Could not list what refers to {digest} in {repository.reference.name}"
    url = repository.url(f"referrers/{digest}{query}")
    found: list[Referrer] = []
    for _ in range(MAX_PAGES):
        answer, index = _get_index(what, url, (200, *_WITHOUT_API), repository)
        if index is None:
            return index_by_tag(digest, repository).parsed.manifests
        found += index.manifests
        following = _next_page(answer, url)
        if following is None:
            return found
        url = following
    raise IntegrityError(f"{what}: the list has more than {MAX_PAGES} pages.")


def fallback_tag(digest: str) -> str:
    """The tag of the index that lists what refers to a digest."""
    return digest.replace(":", "-")


@dataclass(frozen=True)
class TaggedIndex:
    """The index under a fallback tag: as it is, with all that others put there, and its ETag where that is strong."""

    content: bytes
    parsed: ReferrerIndex
    etag: str | None


_NOTHING = canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []})


def index_by_tag(digest: str, repository: Repository) -> TaggedIndex:
    """What is under the fallback tag; an empty index without any.

    Raises: `NetworkError`, `IntegrityError` where something else is there.
    """
    tag = fallback_tag(digest)
    name = f"{repository.reference.name}:{tag}"
    url = repository.url(f"manifests/{tag}")
    answer, index = _get_index(f"Could not read {name}", url, (200, 404), repository)
    if answer.status == 404:
        return TaggedIndex(_NOTHING, ReferrerIndex(2, []), None)
    if index is None or index.media_type not in (None, INDEX_TYPE):
        raise IntegrityError(
            f"{name} is not a list of what refers to an image.",
            hint="Something else was pushed under that tag; it is left as it is. Remove it to attach documents.",
        )
    etag = answer.headers.get("ETag", "")
    return TaggedIndex(answer.content, index, etag if etag.startswith('"') else None)


def _get_index(
    what: str, url: str, accepted: tuple[int, ...], repository: Repository
) -> tuple[Answer, ReferrerIndex | None]:
    """An answer, and the index that it is; None where it is something else.

    A registry need not give a digest with its own list. One that cannot be read was cut or damaged on its way, and is
    asked for again.
    """

    def attempt() -> tuple[Answer, ReferrerIndex | None]:
        answer = repository.send("GET", url, {"Accept": INDEX_TYPE}, accepted=accepted, limit=MAX_DOCUMENT)
        wanted = announced_digest(answer)
        if answer.status == 200 and wanted and digest_of(answer.content) != wanted:
            raise TransferError(f"its bytes hash to {digest_of(answer.content)}, not to {wanted}", "corrupt")
        if answer.status != 200 or not answer.headers.get("Content-Type", "").startswith(INDEX_TYPE):
            return answer, None
        try:
            return answer, parse(answer.content, ReferrerIndex, "the list")
        except IntegrityError as error:
            raise TransferError(error.message.rstrip("."), "corrupt") from error

    return repository.saying(what, lambda: repository.again(attempt))


def _next_page(answer: Answer, url: str) -> str | None:
    """Where a list goes on (RFC 8288: `<address>; rel="next"`), which must be the same registry."""
    address, _, parameters = answer.headers.get("Link", "").partition(">")
    if not address.startswith("<") or 'rel="next"' not in parameters.replace("rel=next", 'rel="next"'):
        return None
    following = urljoin(url, address[1:])
    return following if origin_of(following) == origin_of(url) and following != url else None
