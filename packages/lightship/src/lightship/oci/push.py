"""An image into a registry: its blobs side by side, those that are there left alone, and last its manifest.

The bytes come from the cache as they lie there; nothing is compressed or packed anew, so what a registry holds has
the digests that the build has printed. After a change of code, the app's layer, the config and the manifest travel.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from lightship.cache import CHUNK
from lightship.errors import IntegrityError, LightshipError, ProjectError
from lightship.layers import Layer, missing_layer
from lightship.oci.image import BASE_DIGEST, BASE_NAME, Built, ImageIndex
from lightship.oci.login import RegistryLogin
from lightship.oci.name import Reference
from lightship.oci.repository import Repository
from lightship.oci.reuse import bring, place_of
from lightship.oci.upload import Blob, Outcome, upload
from lightship.session import Session
from lightship.transport import TransferError

PARALLEL = 4  # uploads at once; more is taken for an attack by some registries, and one line is filled by fewer


@dataclass(frozen=True)
class Pushed:
    """An image that is in a registry.

    Attributes:
        reference: Where, by the tag.
        digest: Of the manifest, as the registry confirmed it.
        blobs: How each came there, by digest: the layers and the config.
        sent_bytes: Bytes of blobs and the manifest that were sent.
    """

    reference: Reference
    digest: str
    blobs: dict[str, Outcome]
    sent_bytes: int

    def count(self, outcome: Outcome) -> int:
        """How many blobs came there in one of the ways."""
        return sum(found == outcome for found in self.blobs.values())


def push_image(image: Built, reference: Reference, session: Session, *, plain_http: bool = False) -> Pushed:
    """Push an image whose layers are in the cache.

    Args:
        reference: Registry, repository and tag.
        plain_http: Speak to this registry without TLS; this machine's own addresses need no such permission.

    Raises: `NetworkError`, `IntegrityError` where the registry or the cache holds other bytes than it should,
        `ProjectError` where the reference has a digest.
    """
    if reference.digest:
        raise ProjectError(
            f"{reference} names an image by its digest, which a push cannot choose.",
            hint=f"Leave @{reference.digest} away.",
        )
    blobs = _blobs(image, session)
    mounts = _mounts(image, reference, session)
    names = sorted({name for found in mounts.values() for name in found})
    login = RegistryLogin(reference, session, actions="pull,push", mounted=names, plain_http=plain_http)
    total = sum(blob.size for blob in blobs)
    with (
        closing(Repository(reference, session, login, connections=PARALLEL)) as repository,
        session.progress.task(f"Pushing to {reference}", total) as task,
    ):
        outcomes = _upload_all(blobs, mounts, repository, session, task.advance)
        if isinstance(image, ImageIndex):
            for each in image.images:  # a registry takes an index only when it has what the index names
                repository.put_manifest(each.digest, each.media_type, each.manifest)
        repository.put_manifest(reference.target, image.media_type, image.manifest)
    sent = sum(blob.size for blob in blobs if outcomes[blob.digest] is Outcome.SENT)
    sent += sum({each.digest: len(each.manifest) for each in (image, *image.images)}.values())
    return Pushed(reference, image.digest, outcomes, sent)


def _blobs(image: Built, session: Session) -> list[Blob]:
    """Everything that the manifest names, once, the largest first."""
    blobs = {layer.digest: _layer_blob(layer, session) for layer in image.layers}
    for each in image.images:
        blobs[each.config_digest] = Blob(
            each.config_digest, len(each.config), partial(io.BytesIO, each.config), "the config"
        )
    return sorted(blobs.values(), key=lambda blob: -blob.size)


def _layer_blob(layer: Layer, session: Session) -> Blob:
    if not session.cache.has_blob(layer.digest, layer.size) and not session.cache.elsewhere(layer.digest):
        raise missing_layer(layer)

    def opener() -> BinaryIO:
        bring([layer], session)
        return session.cache.open_blob(layer.digest)

    return Blob(layer.digest, layer.size, opener, f"{layer.kind} ({layer.title})")


def _mounts(image: Built, reference: Reference, session: Session) -> dict[str, tuple[str, ...]]:
    """From which repositories of the same registry layers can be taken over: of a base, or of images to reuse."""
    mounts: dict[str, tuple[str, ...]] = {}
    for layer in image.layers:
        place = place_of(layer, session)
        if place and place.registry == reference.registry and place.repository != reference.repository:
            mounts[layer.digest] = (place.repository,)
    for each in image.images:
        annotations = dict(each.annotations)
        if BASE_DIGEST not in annotations:
            continue
        try:
            base = Reference.parse(annotations.get(BASE_NAME, ""))
        except ProjectError:
            continue
        if base.registry == reference.registry and base.repository != reference.repository:
            mounts |= {layer.digest: (base.repository,) for layer in each.layers if layer.kind == "base"}
    return mounts


def _upload_all(
    blobs: Sequence[Blob],
    mounts: dict[str, tuple[str, ...]],
    repository: Repository,
    session: Session,
    advance: Callable[[int], None],
) -> dict[str, Outcome]:
    def one(blob: Blob) -> Outcome:
        try:
            return upload(blob, repository, advance, mounted=mounts.get(blob.digest, ()))
        except TransferError as error:
            raise _failure(blob, error, repository, session) from error

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="push") as executor:
        futures = {blob.digest: executor.submit(one, blob) for blob in blobs}
        try:
            done, waiting = wait(futures.values(), return_when=FIRST_EXCEPTION)
            if waiting:
                repository.again.stop()  # before the others are asked: what they say then is a consequence
            for future in done:
                future.result()
        except BaseException:
            repository.again.stop()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return {digest: future.result() for digest, future in futures.items()}


def _failure(blob: Blob, error: TransferError, repository: Repository, session: Session) -> LightshipError:
    if error.status == 400:
        hashed = hashlib.sha256()
        with blob.open() as file:
            while piece := file.read(CHUNK):
                hashed.update(piece)
        if f"sha256:{hashed.hexdigest()}" != blob.digest:
            return IntegrityError(
                f"The layer {blob.digest} is damaged in the cache; the registry refused it.",
                hint="`lightship cache verify` removes what is damaged; then build again.",
            )
    return repository.failure(f"Could not push {blob.title} to {repository.reference}", error)
