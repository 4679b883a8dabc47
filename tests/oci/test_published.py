"""Documents from outside: whatever they say, the answer is an image or a clear refusal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.errors import IntegrityError, LightshipError, ProjectError
from lightship.oci.image import Platform, canonical_json, descriptor
from lightship.oci.published import (
    DOCKER_INDEX_TYPE,
    DOCKER_MANIFEST_TYPE,
    MAX_DOCUMENT,
    MAX_LAYERS,
    Descriptor,
    PublishedImage,
    document_type,
    read_image,
)
from lightship.session import Session

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + "1" * 64, "size": 10}
DIFF_ID = "sha256:" + "2" * 64


class Documents:
    """A source whose documents are in memory."""

    def __init__(self, top: bytes, *others: bytes) -> None:
        self._top = top
        self._others = {descriptor("", content)["digest"]: content for content in (top, *others)}

    def __str__(self) -> str:
        return "the test's image"

    def top(self) -> bytes:
        return self._top

    def document(self, wanted: Descriptor) -> bytes:
        return self._others.get(wanted.digest, b"")

    def pull(self, layers: Sequence[Descriptor], session: Session) -> None:
        raise NotImplementedError


def config(**changes: Any) -> bytes:
    fields = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [DIFF_ID]}}
    return json.dumps(fields | changes).encode()


def manifest(of: bytes, **changes: Any) -> bytes:
    fields = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, of), "layers": [LAYER]}
    return json.dumps({key: value for key, value in (fields | changes).items() if value is not None}).encode()


def index(*entries: dict[str, Any], media_type: str = INDEX) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode()


def read(top: bytes, *others: bytes) -> PublishedImage:
    return read_image(Documents(top, *others), Platform())


def test_a_manifest_is_read() -> None:
    top = manifest(config())
    image = read(top, config())
    assert image.digest == descriptor("", top)["digest"]
    assert [(layer.digest, diff_id) for layer, diff_id in image.layers] == [(LAYER["digest"], DIFF_ID)]


def test_a_manifest_without_a_media_type_is_read() -> None:
    assert read(manifest(config(), mediaType=None), config()).manifest.layers


def test_dockers_documents_are_read() -> None:
    docker = manifest(
        config(),
        mediaType=DOCKER_MANIFEST_TYPE,
        layers=[LAYER | {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}],
        config=descriptor("application/vnd.docker.container.image.v1+json", config()),
    )
    entry = descriptor(DOCKER_MANIFEST_TYPE, docker) | {"platform": {"os": "linux", "architecture": "amd64"}}
    assert read(index(entry, media_type=DOCKER_INDEX_TYPE), docker, config()).manifest.layers


def test_attestations_and_other_platforms_are_passed_over() -> None:
    wanted = manifest(config())
    entries = [
        descriptor(MANIFEST, b"provenance") | {"platform": {"os": "unknown", "architecture": "unknown"}},
        descriptor(MANIFEST, b"other") | {"platform": {"os": "linux", "architecture": "amd64", "variant": "v3"}},
        descriptor(MANIFEST, wanted) | {"platform": {"os": "linux", "architecture": "amd64"}},
    ]
    assert read(index(*entries), wanted, config()).digest == descriptor("", wanted)["digest"]


def test_an_index_within_an_index_is_followed_but_not_for_ever() -> None:
    documents = [manifest(config())]
    for _ in range(2):
        media_type = MANIFEST if len(documents) == 1 else INDEX
        documents.append(index(descriptor(media_type, documents[-1])))
    assert read(documents[-1], *documents, config()).manifest.layers
    for _ in range(5):
        documents.append(index(descriptor(INDEX, documents[-1])))
    with pytest.raises(IntegrityError, match="not an image"):
        read(documents[-1], *documents, config())


@pytest.mark.parametrize(
    ("top", "reason"),
    [
        (b"", "Could not read"),
        (b"\xff\xfe", "Could not read"),
        (b"[]", "Could not read"),
        (b"[" * 100_000, "Could not read"),
        (b'{"config":' + b"[" * 100_000, "Could not read"),
        (b"{}", "neither an image nor an index"),
        (manifest(config(), manifests=[]), "neither an image nor an index"),
        (manifest(config(), mediaType="application/vnd.oci.image.index.v1+json"), "Could not read the index"),
        (manifest(config(), mediaType="text/html"), "not an image"),
        (manifest(config(), schemaVersion=1), "not a container image"),
        (manifest(config(), config=descriptor("application/vnd.cncf.helm.config.v1+json", config())), "helm"),
        (manifest(config(), layers=[LAYER | {"digest": "sha256:../../etc/passwd"}]), "Could not read"),
        (manifest(config(), layers=[LAYER | {"digest": LAYER["digest"] + "\n"}]), "Could not read"),
        (manifest(config(), layers=[LAYER | {"digest": "md5:" + "1" * 32}]), "Could not read"),
        (manifest(config(), layers=[LAYER | {"size": -1}]), "Could not read"),
        (manifest(config(), layers=[LAYER | {"size": 1 << 60}]), "Could not read"),
        (manifest(config(), layers=[LAYER | {"size": 1.5}]), "Could not read"),
        (manifest(config(), layers=[LAYER | {"mediaType": "application/zip"}]), "cannot be built upon"),
        (manifest(config(), layers=[LAYER, LAYER]), "contradicts itself"),
        (manifest(config(), config=descriptor(CONFIG, config()) | {"size": MAX_DOCUMENT + 1}), "claims"),
        (manifest(config(), config=descriptor(CONFIG, config()) | {"size": 3}), "wrong bytes"),
        (manifest(config(), config=descriptor(CONFIG, b"another")), "wrong bytes"),
    ],
)
def test_a_hostile_or_foreign_manifest_is_refused(top: bytes, reason: str) -> None:
    with pytest.raises(LightshipError, match=reason):
        read(top, config())


def test_too_many_layers_are_refused() -> None:
    many = MAX_LAYERS + 1
    fat = config(rootfs={"type": "layers", "diff_ids": [DIFF_ID] * many})
    with pytest.raises(IntegrityError, match="128 layers"):
        read(manifest(fat, layers=[LAYER] * many), fat)


def test_another_platform_is_refused() -> None:
    arm = config(architecture="arm64")
    with pytest.raises(ProjectError, match="is for linux/arm64"):
        read(manifest(arm), arm)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests"]), JSON))
def test_any_fields_are_an_image_or_refused(fields: dict[str, Any]) -> None:
    usual = json.loads(manifest(config()))
    for document in (fields, usual | fields, json.loads(index()) | fields):
        with pytest.raises(LightshipError):
            read(canonical_json(document))  # at the latest for want of the config, which this source lacks


@given(JSON)
def test_any_config_is_read_or_refused(changed: object) -> None:
    for field in ("architecture", "rootfs", "config", "history"):
        odd = config(**{field: changed})
        try:
            read(manifest(odd), odd)
        except LightshipError:
            continue


@given(st.binary(max_size=64))
def test_any_bytes_are_a_document_or_refused(content: bytes) -> None:
    try:
        document_type(content, "the test's image")
    except IntegrityError:
        return
