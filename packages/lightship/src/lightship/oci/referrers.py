"""What refers to an image in a registry: bills of materials, provenance, signatures; put there, listed, read.

Registries of distribution-spec 1.1 list the referrers of a manifest by themselves, and say so when one is pushed
(`OCI-Subject`). For the others clients keep the list, as an index under the tag `sha256-<hex>`
(spec.md, "Pushing Manifests with Subject" and "Referrers Tag Schema").

That index is read, added to and written back, and registries offer no lock. So that nobody's entry is lost, an entry
that is there is never removed, a write is made conditional where the registry gives an ETag, writers on this machine
take turns, and after a write the index is read again once any writer that had read the old one must be done.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from lightship.errors import IntegrityError, NetworkError
from lightship.oci.artifact import Artifact, Content
from lightship.oci.image import INDEX_TYPE, canonical_json
from lightship.oci.login import RegistryLogin
from lightship.oci.name import Reference
from lightship.oci.published import MAX_DOCUMENT, Descriptor, parse
from lightship.oci.referrer_list import Referrer, fallback_tag, index_by_tag, referrers_of
from lightship.oci.repository import Answer, Repository
from lightship.oci.upload import Blob, Outcome, upload
from lightship.session import Session

MAX_INDEX = 4 << 20  # bytes of a list that we write: what registries must take (spec.md, "Pushing Manifests")
MAX_CONTENT = 64 << 20  # bytes of an artifact that is read, all of it; SBOMs of large images have a few MB
PARALLEL = 4  # artifacts at once; each is a handful of requests, one after the other
SUBJECT_HEADER = "OCI-Subject"
_ROUNDS = 8  # reads of the index, before we believe that somebody keeps writing over it
_SETTLED = (0.05, 5.0)  # seconds to wait before the index is read again, at least and at most


class Way(StrEnum):
    """How an artifact came to be listed."""

    THERE = "there"
    API = "referrers API"
    TAG = "fallback tag"
    NAMED = "tag of its own"


@dataclass(frozen=True)
class Attached:
    """An artifact that is in a repository and listed; `sent_bytes` count blobs and manifests, the list among them."""

    artifact: Artifact
    way: Way
    sent_bytes: int


def attach(
    artifacts: Sequence[Artifact], reference: Reference, session: Session, *, plain_http: bool = False
) -> tuple[Attached, ...]:
    """Bring artifacts into a repository, and see that they are listed with their subjects.

    What is there and listed is left alone. The subject itself may come later, or be there already.

    Args:
        reference: Registry and repository; its tag and digest are of no interest.
        plain_http: Speak to this registry without TLS; this machine's own addresses need no such permission.

    Raises: `NetworkError`, `IntegrityError`.
    """
    attached: list[Attached] = []
    with closing(_repository(reference, session, "pull,push", plain_http)) as repository:
        groups: dict[str, list[Artifact]] = {}
        for artifact in artifacts:
            groups.setdefault(artifact.subject.digest if artifact.subject else "", []).append(artifact)
        for digest, group in groups.items():
            attached += _attach_to(digest or None, group, repository, session)
    order = {artifact.digest: number for number, artifact in enumerate(artifacts)}
    return tuple(sorted(attached, key=lambda each: order[each.artifact.digest]))


def put_artifact(artifact: Artifact, repository: Repository, tag: str | None = None) -> tuple[Answer, int]:
    """Upload an artifact's blobs and its manifest, the latter under a tag where one is given.

    Returns: the registry's answer to the manifest, and the bytes that were sent.

    Raises: `NetworkError`, `IntegrityError`.
    """
    sent = sum(_put_content(content, repository) for content in artifact.blobs)
    answer = repository.put_manifest(tag or artifact.digest, artifact.media_type, artifact.manifest)
    return answer, sent + len(artifact.manifest)


def _put_content(content: Content, repository: Repository) -> int:
    """See that a document is in the repository; returns the bytes that were sent."""
    blob = Blob(content.digest, len(content.data), content.open, content.media_type)
    what = f"Could not push {content.media_type} to {repository.reference.name}"
    outcome = repository.saying(what, lambda: upload(blob, repository, lambda _: None))
    return blob.size if outcome is Outcome.SENT else 0


def list_referrers(
    reference: Reference,
    digest: str,
    session: Session,
    *,
    artifact_type: str | None = None,
    plain_http: bool = False,
) -> tuple[Referrer, ...]:
    """What refers to a manifest of a repository; nothing is an answer too.

    Args:
        digest: Of the image's manifest or index.
        artifact_type: Only artifacts of this type.

    Raises: `NetworkError`, `IntegrityError` for a list that is none.
    """
    with closing(_repository(reference, session, "pull", plain_http)) as repository:
        found = referrers_of(digest, repository, artifact_type)
    return tuple(each for each in found if artifact_type in (None, each.artifact_type))


def push_artifact(
    artifact: Artifact, reference: Reference, session: Session, *, plain_http: bool = False
) -> Attached:
    """Bring an artifact under a tag, as signatures were before there were referrers; it is not listed anywhere.

    Raises: `NetworkError`, `IntegrityError`.
    """
    with closing(_repository(reference, session, "pull,push", plain_http)) as repository:
        _, sent = put_artifact(artifact, repository, reference.target)
    return Attached(artifact, Way.NAMED, sent)


def read_artifact(reference: Reference, session: Session, *, plain_http: bool = False) -> Artifact:
    """An artifact, whole and verified: by a tag, or `reference.at(digest)` for one that was listed.

    Raises: `GoneError`, `NetworkError`, `IntegrityError` where it is not what its digest names, or too large.
    """
    with closing(_repository(reference, session, "pull", plain_http)) as repository:
        content = repository.document(f"manifests/{reference.target}", MAX_DOCUMENT, reference.digest)
        manifest = parse(content, _Manifest, f"the artifact {reference}")
        described = (manifest.config, *manifest.layers)
        if sum(each.size + 1 for each in described) > MAX_CONTENT:
            raise IntegrityError(
                f"The artifact {reference} is larger than documents are.",
                hint="It is something else, an image for example; it was not read.",
            )
        config, *contents = [_content(each, repository) for each in described]
    return Artifact(
        artifact_type=manifest.artifact_type or manifest.config.media_type,
        contents=tuple(contents),
        subject=manifest.subject,
        annotations=tuple((manifest.annotations or {}).items()),
        config=config,
    )


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    config: Descriptor
    layers: list[Descriptor]
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


def _content(described: Descriptor, repository: Repository) -> Content:
    data = repository.document(f"blobs/{described.digest}", max(described.size, 1), described.digest)
    return Content(described.media_type, data, tuple((described.annotations or {}).items()))


def _repository(reference: Reference, session: Session, actions: str, plain_http: bool) -> Repository:
    login = RegistryLogin(reference, session, actions=actions, plain_http=plain_http)
    return Repository(reference, session, login, connections=PARALLEL)


def _attach_to(
    subject: str | None, artifacts: Sequence[Artifact], repository: Repository, session: Session
) -> list[Attached]:
    """Put artifacts with one subject, given by its digest, or with none."""
    listed = {each.digest for each in referrers_of(subject, repository)} if subject else set()

    def one(artifact: Artifact) -> Attached:
        if (subject is None or artifact.digest in listed) and repository.has_manifest(artifact.digest):
            return Attached(artifact, Way.THERE, 0)
        answer, sent = put_artifact(artifact, repository)
        by_itself = subject is None or answer.headers.get(SUBJECT_HEADER) == subject
        return Attached(artifact, Way.API if by_itself else Way.TAG, sent)

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="attach") as pool:
        attached = list(pool.map(one, artifacts))
    unlisted = [each.artifact for each in attached if each.way is Way.TAG]
    if subject is None or not unlisted:
        return attached
    turn = hashlib.sha256(f"{repository.reference.name}@{subject}".encode()).hexdigest()[:16]
    with session.cache.lock(f"referrers-{turn}"):
        written = _list_by_tag(subject, unlisted, repository)
    first = attached.index(next(each for each in attached if each.way is Way.TAG))
    attached[first] = replace(
        attached[first], sent_bytes=attached[first].sent_bytes + written
    )  # the list counts once
    return attached


def _list_by_tag(digest: str, artifacts: Sequence[Artifact], repository: Repository) -> int:
    """Add artifacts to the index under the fallback tag; returns the bytes that were sent."""
    sent = 0
    for number in range(_ROUNDS):
        begun = time.monotonic()
        found = index_by_tag(digest, repository)
        present = {entry.digest for entry in found.parsed.manifests}
        missing = [artifact.descriptor for artifact in artifacts if artifact.digest not in present]
        if not missing:
            return sent
        index = msgspec.json.decode(found.content)
        index["manifests"] += missing
        content = canonical_json(index)
        if len(content) > MAX_INDEX:
            raise IntegrityError(
                f"The list of what refers to {digest} in {repository.reference.name} is full.",
                hint=f"Registries take {MAX_INDEX} bytes; remove what is no longer needed from that repository.",
            )
        condition = {"If-Match": found.etag} if found.etag else {}
        answer = repository.put_manifest(
            fallback_tag(digest), INDEX_TYPE, content, headers=condition, accepted=(201, 412)
        )
        sent += len(content) if answer.status == 201 else 0
        # Who read the old index while we wrote ours will have written by then; rivals wait differently.
        shortest, longest = _SETTLED
        pause = max(shortest, 3 * (time.monotonic() - begun)) * (1 + number * random.random())  # noqa: S311
        time.sleep(min(pause, longest))
    raise NetworkError(
        f"Somebody else keeps writing over the list of what refers to {digest} in {repository.reference.name}.",
        hint="Push again when no other program attaches documents to the same image.",
    )
