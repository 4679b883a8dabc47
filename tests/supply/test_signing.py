"""Signatures in a registry: found where cosign looks for them, kept, not doubled, and never believed too easily."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from lightship.download import GoneError
from lightship.errors import IntegrityError
from lightship.oci.image import Image
from lightship.oci.login import RegistryLogin
from lightship.oci.name import Reference
from lightship.oci.push import push_image
from lightship.oci.repository import Repository
from lightship.oci.upload import Blob, upload
from lightship.session import Session
from lightship.supply.cosign_keys import PrivateKey, generate_key
from lightship.supply.signing import MANIFEST_TYPE, PAYLOAD_TYPE, SIGNATURE, sign_image, verify_signature
from lightship.testing import Faults, MemoryRegistry

pytest.importorskip("cryptography")
pytest.importorskip("nacl")
MakeImage = Callable[..., Image]


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


@pytest.fixture(params=["memory", pytest.param("docker-registry", marks=pytest.mark.tool("docker-registry"))])
def reference(request: pytest.FixtureRequest) -> Iterator[Reference]:
    """A name in an empty registry of either kind."""
    if request.param == "docker-registry":
        yield Reference.parse(f"{request.getfixturevalue('registry')}/team/iris:1")
        return
    with MemoryRegistry() as registry:
        yield Reference.parse(f"{registry.address}/team/iris:1")


def tag_of(image: Image) -> str:
    return f"sha256-{image.digest.removeprefix('sha256:')}.sig"


def read(reference: Reference, session: Session, path: str) -> bytes:
    with closing(Repository(reference, session, RegistryLogin(reference, session))) as repository:
        return repository.document(path, 1 << 20, None)


def store(reference: Reference, session: Session, tag: str, layers: list[tuple[bytes, str]]) -> None:
    """Put signatures under a tag as somebody else may: payloads with what stands in the annotation."""
    login = RegistryLogin(reference, session, actions="pull,push")
    with closing(Repository(reference, session, login)) as repository:
        described = []
        for content, annotation in [(b"{}", ""), *layers]:
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            upload(
                Blob(digest, len(content), lambda held=content: io.BytesIO(held), "it"), repository, lambda _: None
            )  # type: ignore[misc]
            layer = {"mediaType": PAYLOAD_TYPE, "size": len(content), "digest": digest}
            described.append(layer | {"annotations": {SIGNATURE: annotation}})
        manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": described[1:]}
        manifest["config"] = {"mediaType": "application/vnd.oci.image.config.v1+json"} | {
            name: described[0][name] for name in ("size", "digest")
        }
        repository.put_manifest(tag, MANIFEST_TYPE, json.dumps(manifest).encode())


def test_the_signature_lies_where_and_as_the_specification_has_it(
    session: Session, small_image: MakeImage, key: PrivateKey, reference: Reference
) -> None:
    image = small_image()
    push_image(image, reference, session)
    signed = sign_image(reference, key, session)
    assert (signed.digest, signed.tag, signed.added) == (image.digest, tag_of(image), True)
    manifest = json.loads(read(reference, session, f"manifests/{tag_of(image)}"))
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    payload = read(reference, session, f"blobs/{layer['digest']}")
    assert json.loads(payload) == {
        "critical": {
            "identity": {"docker-reference": reference.name},
            "image": {"docker-manifest-digest": image.digest},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    assert key.public.verifies(signature, payload)
    config = json.loads(read(reference, session, f"blobs/{manifest['config']['digest']}"))
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    verified = verify_signature(reference, key.public, session)
    assert verified.reference == reference.at(image.digest)
    assert [each.reference for each in verified.signatures] == [reference.name]


def test_other_signatures_are_kept_and_the_same_key_signs_once(
    session: Session, small_image: MakeImage, key: PrivateKey, reference: Reference
) -> None:
    image, other = small_image(), generate_key()
    push_image(image, reference, session)
    sign_image(reference, key, session)
    first = json.loads(read(reference, session, f"manifests/{tag_of(image)}"))
    assert sign_image(reference, other, session).added
    both = json.loads(read(reference, session, f"manifests/{tag_of(image)}"))
    assert both["layers"][:1] == first["layers"]
    assert len(both["layers"]) == 2
    assert not sign_image(reference, key, session).added
    assert not sign_image(reference, other, session).added
    assert json.loads(read(reference, session, f"manifests/{tag_of(image)}")) == both
    config = json.loads(read(reference, session, f"blobs/{both['config']['digest']}"))
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in both["layers"]]
    for each in (key, other):
        assert len(verify_signature(reference, each.public, session).signatures) == 1


def test_what_is_not_signed_with_the_key_is_refused(
    session: Session, small_image: MakeImage, key: PrivateKey, reference: Reference
) -> None:
    push_image(small_image(), reference, session)
    with pytest.raises(IntegrityError, match="it has no signatures"):
        verify_signature(reference, key.public, session)
    sign_image(reference, generate_key(), session)
    with pytest.raises(IntegrityError, match="none of its 1 signatures is by this key"):
        verify_signature(reference, key.public, session)
    with pytest.raises(GoneError):
        verify_signature(Reference.parse(f"{reference.name}:never"), key.public, session)
    with pytest.raises(GoneError):
        sign_image(Reference.parse(f"{reference.name}:never"), key, session)


def test_a_tag_that_moves_is_no_longer_signed(
    session: Session, small_image: MakeImage, key: PrivateKey, reference: Reference
) -> None:
    push_image(small_image("one"), reference, session)
    signed = sign_image(reference, key, session)
    push_image(small_image("two"), reference, session)
    with pytest.raises(IntegrityError, match="not signed"):
        verify_signature(reference, key.public, session)
    assert verify_signature(reference.at(signed.digest), key.public, session).digest == signed.digest


def test_forged_and_replayed_statements_are_refused(
    session: Session, small_image: MakeImage, key: PrivateKey, reference: Reference
) -> None:
    image = small_image("two")
    push_image(small_image("one"), reference, session)
    sign_image(reference, key, session)
    one = json.loads(read(reference, session, f"manifests/{tag_of(small_image('one'))}"))["layers"][0]
    payload = read(reference, session, f"blobs/{one['digest']}")
    forged = payload.replace(small_image("one").digest.encode(), image.digest.encode())
    of_another_type = forged.replace(b"cosign container image signature", b"a note")
    signature = one["annotations"][SIGNATURE]
    hostile = [
        (payload, signature),  # a true signature, of another image
        (forged, signature),
        (of_another_type, base64.b64encode(key.sign(of_another_type)).decode()),
        (b"not JSON", base64.b64encode(key.sign(b"not JSON")).decode()),
        (b"[" * 5000, base64.b64encode(key.sign(b"[" * 5000)).decode()),
        (forged + b" ", "not base64"),
        (forged + b"  ", ""),
    ]
    push_image(image, reference, session)
    store(reference, session, tag_of(image), hostile)
    with pytest.raises(IntegrityError, match="is by this key"):
        verify_signature(reference, key.public, session)
    assert sign_image(reference, key, session).added
    assert len(verify_signature(reference, key.public, session).signatures) == 1


def test_claims_and_the_other_spelling_are_read(
    session: Session, small_image: MakeImage, key: PrivateKey, reference: Reference
) -> None:
    image = small_image()
    push_image(image, reference, session)
    document = {
        "critical": {
            "identity": {"docker-reference": "testing/manifest"},
            "image": {"Docker-manifest-digest": image.digest},
            "type": "cosign container image signature",
        },
        "optional": {"creator": "atomic", "timestamp": 1458239713},
    }
    payload = json.dumps(document, indent=4).encode()
    store(reference, session, tag_of(image), [(payload, base64.b64encode(key.sign(payload)).decode())])
    (found,) = verify_signature(reference, key.public, session).signatures
    assert found.claims == (("creator", "atomic"), ("timestamp", "1458239713"))


def test_more_signatures_than_are_reasonable_are_refused(
    session: Session, small_image: MakeImage, key: PrivateKey
) -> None:
    with MemoryRegistry() as registry:
        reference = Reference.parse(f"{registry.address}/iris:1")
        image = small_image()
        push_image(image, reference, session)
        store(reference, session, tag_of(image), [(b"{}", "")] * 300)
        for attempt in (
            lambda: verify_signature(reference, key.public, session),
            lambda: sign_image(reference, key, session),
        ):
            with pytest.raises(IntegrityError, match="300 signatures"):
                attempt()


def test_a_registry_that_fails_now_and_then_gets_one_signature(
    session: Session, small_image: MakeImage, key: PrivateKey
) -> None:
    with MemoryRegistry(faults=Faults(rate=0.2, seed=7), account=("harbour", "quay-side")) as registry:
        reference = Reference.parse(f"{registry.address}/iris:1")
        login = base64.b64encode(b"harbour:quay-side").decode()
        config = session.cache.root / "docker"
        config.mkdir(parents=True)
        (config / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": login}}}))
        session = Session(session.cache, environ={**session.environ, "DOCKER_CONFIG": str(config)})
        push_image(small_image(), reference, session)
        assert sign_image(reference, key, session).added
        assert not sign_image(reference, key, session).added
        assert len(verify_signature(reference, key.public, session).signatures) == 1
