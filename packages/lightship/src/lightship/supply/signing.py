"""Signatures beside an image in its repository, where cosign looks for them and in its form.

The signatures of sha256:<hex> are an OCI image under the tag sha256-<hex>.sig. Each of its layers is a statement
("simple signing") that names the digest, and the layer's annotation holds the signature of it (cosign's
specs/SIGNATURE_SPEC.md). Signatures that are there are kept as they are, by whomever they are.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from lightship.download import GoneError
from lightship.errors import IntegrityError
from lightship.oci.image import digest_of
from lightship.oci.login import RegistryLogin
from lightship.oci.name import Reference
from lightship.oci.published import MAX_DOCUMENT, Manifest
from lightship.oci.repository import Repository
from lightship.oci.upload import Blob, upload
from lightship.session import Session
from lightship.supply.cosign_keys import PrivateKey, PublicKey

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"  # annotation of a layer: base64 of the DER form
STATEMENT_TYPE = "cosign container image signature"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MAX_SIGNATURES = 256  # that are looked at; anyone who may push can add some
MAX_PAYLOAD = 64 << 10  # bytes
_NO_TIME = "0001-01-01T00:00:00Z"  # what cosign writes: signatures say nothing about when


class _Identity(msgspec.Struct, frozen=True):
    reference: str = msgspec.field(name="docker-reference", default="")


class _Image(msgspec.Struct, frozen=True):
    """The specification's example writes a capital letter, cosign does not, and its reader takes both."""

    digest: str = msgspec.field(name="docker-manifest-digest", default="")
    capital: str = msgspec.field(name="Docker-manifest-digest", default="")


class _Critical(msgspec.Struct, frozen=True):
    identity: _Identity
    image: _Image
    type: str


class _Statement(msgspec.Struct, frozen=True):
    critical: _Critical
    optional: dict[str, Any] | None = None


@dataclass(frozen=True)
class Signature:
    """One signature that was checked.

    Attributes:
        reference: The name that the signer gave to the image; only the digest is binding.
        claims: What else was signed.
    """

    reference: str
    claims: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Signed:
    """An image that has a signature now; `added` is false where the same key had signed it before."""

    reference: Reference
    digest: str
    tag: str
    added: bool


@dataclass(frozen=True)
class Verified:
    """An image with at least one signature by the key; `reference` is pinned to what was signed."""

    reference: Reference
    signatures: tuple[Signature, ...]

    @property
    def digest(self) -> str:
        return self.reference.digest or ""


def signature_tag(digest: str) -> str:
    """Where the signatures of a digest lie.

    >>> signature_tag("sha256:" + "0" * 64)[:12]
    'sha256-00000'
    """
    return f"{digest.replace(':', '-')}.sig"


def sign_image(reference: Reference, key: PrivateKey, session: Session, *, plain_http: bool = False) -> Signed:
    """Sign what a reference names now, and put the signature beside it.

    Raises: `NetworkError`, `GoneError` where there is no such image, `IntegrityError`.
    """
    login = RegistryLogin(reference, session, actions="pull,push", plain_http=plain_http)
    with closing(Repository(reference, session, login)) as repository:
        digest = _resolved(repository)
        tag = signature_tag(digest)
        before = _signatures(repository, tag)
        if any(_checked(found, digest, key.public) for found in _payloads(repository, before)):
            return Signed(reference, digest, tag, added=False)
        payload = statement(reference, digest)
        config = _config(repository, before, digest_of(payload))
        manifest = _with_layer(before, config, payload, key.sign(payload))
        for content, title in ((payload, "the signature"), (config, "the config of the signatures")):
            blob = Blob(digest_of(content), len(content), partial(io.BytesIO, content), title)
            what = f"Could not push {title} of {reference}"
            repository.saying(what, partial(upload, blob, repository, lambda _: None))
        repository.put_manifest(tag, MANIFEST_TYPE, manifest)
    return Signed(reference, digest, tag, added=True)


def verify_signature(reference: Reference, key: PublicKey, session: Session, *, plain_http: bool = False) -> Verified:
    """Find signatures by a key of what a reference names now.

    Raises: `IntegrityError` where there is none, `NetworkError`, `GoneError` where there is no such image.
    """
    login = RegistryLogin(reference, session, plain_http=plain_http)
    with closing(Repository(reference, session, login)) as repository:
        digest = _resolved(repository)
        found = list(_payloads(repository, _signatures(repository, signature_tag(digest))))
    signatures = tuple(signature for each in found if (signature := _checked(each, digest, key)))
    if not signatures:
        others = f"none of its {len(found)} signatures is by this key" if found else "it has no signatures"
        raise IntegrityError(
            f"{reference} ({digest}) is not signed with {key.fingerprint}: {others}.",
            hint="Check that it is the right key and the right image before you run it; "
            "whoever holds the private key signs with `lightship sign`.",
        )
    return Verified(reference.at(digest), signatures)


def statement(reference: Reference, digest: str) -> bytes:
    """What is signed: that this digest is the image of this name."""
    document = {
        "critical": {
            "identity": {"docker-reference": reference.name},
            "image": {"docker-manifest-digest": digest},
            "type": STATEMENT_TYPE,
        },
        "optional": None,
    }
    return msgspec.json.encode(document)


def _resolved(repository: Repository) -> str:
    """The digest of what the reference names, by its bytes rather than by what the registry says."""
    reference = repository.reference
    return digest_of(repository.document(f"manifests/{reference.target}", MAX_DOCUMENT, reference.digest))


def _signatures(repository: Repository, tag: str) -> dict[str, Any] | None:
    """The manifest of the signatures as it is, unknown fields included; None where nothing is signed."""
    try:
        content = repository.document(f"manifests/{tag}", MAX_DOCUMENT, None)
    except GoneError:
        return None
    try:
        document: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
        manifest = msgspec.convert(document, Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(repository, tag, "it is not a manifest of signatures") from error
    if len(manifest.layers) > MAX_SIGNATURES:
        raise _damaged(repository, tag, f"it has {len(manifest.layers)} signatures, more than {MAX_SIGNATURES}")
    return document


def _damaged(repository: Repository, tag: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"The signatures under {repository.reference.name}:{tag} cannot be used: {why}.",
        hint="Look at who pushed that tag; where nobody needs it, delete it and sign again.",
    )


def _payloads(repository: Repository, document: dict[str, Any] | None) -> Iterator[tuple[bytes, bytes]]:
    """Statements with their signatures; what is neither is somebody else's affair."""
    if document is None:
        return
    for layer in msgspec.convert(document, Manifest).layers:
        encoded = (layer.annotations or {}).get(SIGNATURE)
        if layer.media_type != PAYLOAD_TYPE or encoded is None or layer.size > MAX_PAYLOAD:
            continue
        try:
            signature = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue
        yield repository.document(f"blobs/{layer.digest}", MAX_PAYLOAD, layer.digest), signature


def _checked(found: tuple[bytes, bytes], digest: str, key: PublicKey) -> Signature | None:
    """The signature, where it is by the key and about the digest. Nothing of it is read before it is verified."""
    payload, signature = found
    if not key.verifies(signature, payload):
        return None
    try:
        read = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    critical = read.critical
    if critical.type != STATEMENT_TYPE or (critical.image.digest or critical.image.capital) != digest:
        return None
    claims = tuple(sorted((name, str(value)) for name, value in (read.optional or {}).items()))
    return Signature(critical.identity.reference, claims)


def _config(repository: Repository, before: dict[str, Any] | None, diff_id: str) -> bytes:
    """The config that goes with the signatures and one more: as many diff IDs as there are layers."""
    config: dict[str, Any] = {
        "architecture": "",
        "created": _NO_TIME,
        "history": [],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {},
    }
    if before is not None:
        manifest = msgspec.convert(before, Manifest)
        layers = [layer.digest for layer in manifest.layers]  # payloads are not compressed
        config["rootfs"]["diff_ids"] = layers
        config["history"] = [{"created": _NO_TIME} for _ in layers]
    config["rootfs"]["diff_ids"] = [*config["rootfs"]["diff_ids"], diff_id]
    config["history"] = [*config["history"], {"created": _NO_TIME}]
    return msgspec.json.encode(config)


def _with_layer(before: dict[str, Any] | None, config: bytes, payload: bytes, signature: bytes) -> bytes:
    layer = {
        "mediaType": PAYLOAD_TYPE,
        "size": len(payload),
        "digest": digest_of(payload),
        "annotations": {SIGNATURE: base64.b64encode(signature).decode()},
    }
    document = dict(before or {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": {}, "layers": []})
    document["config"] = {"mediaType": CONFIG_TYPE, "size": len(config), "digest": digest_of(config)}
    document["layers"] = [*document["layers"], layer]
    return msgspec.json.encode(document)
