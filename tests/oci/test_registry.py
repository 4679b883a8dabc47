"""Pulling from a real registry on loopback, filled by skopeo."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightship.errors import IntegrityError, LightshipError, NetworkError, ProjectError
from lightship.layers import Compression
from lightship.oci.image import Image, Platform
from lightship.oci.layout import write_layout
from lightship.oci.name import Reference
from lightship.oci.published import read_image
from lightship.oci.registry import RegistrySource
from lightship.session import Session

pytestmark = [pytest.mark.tool("skopeo"), pytest.mark.tool("docker-registry")]
MakeImage = Callable[..., Image]
ACCOUNT = "harbour:quay-side"
HTPASSWD = "harbour:$2b$04$abcdefghijklmnopqrstuu8vk5LPmQ72XBmL2RJyHZpZzHVdSFaEW\n"  # bcrypt, as the registry wants


def push(image: Image, session: Session, name: str, directory: Path, *options: str) -> None:
    layout = write_layout(image, session.cache, directory, name="x:1")
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
    subprocess.run([*copy, *options, f"oci:{layout}:1", f"docker://{name}"], check=True, capture_output=True)


def forget(image: Image, session: Session) -> None:
    for layer in image.layers:
        session.cache.blob_path(layer.digest).unlink()


def source(name: str, session: Session) -> RegistrySource:
    return RegistrySource(Reference.parse(name), session)


@pytest.mark.parametrize("compression", list(Compression))
def test_an_image_is_pulled_as_it_was_pushed(
    session: Session, registry: str, small_image: MakeImage, tmp_path: Path, compression: Compression
) -> None:
    image = small_image(compression=compression)
    push(image, session, f"{registry}/team/base:1", tmp_path / "layout")
    forget(image, session)
    for name in (
        f"{registry}/team/base:1",
        f"{registry}/team/base:1@{image.digest}",
        f"{registry}/team/base@{image.digest}",
    ):
        pulled = read_image(source(name, session), Platform())
        assert pulled.digest == image.digest
        assert [d.digest for d in pulled.manifest.layers] == [layer.digest for layer in image.layers]
    assert not any(session.cache.has_blob(layer.digest) for layer in image.layers)
    source(f"{registry}/team/base:1", session).pull(pulled.manifest.layers, session)
    assert all(session.cache.has_blob(layer.digest, layer.size) for layer in image.layers)


def test_the_platform_is_chosen_from_an_index(
    session: Session, registry: str, small_image: MakeImage, tmp_path: Path
) -> None:
    images = [replace(small_image(arch), platform=Platform(arch)) for arch in ("amd64", "arm64")]
    entries = []
    for image in images:
        push(image, session, f"{registry}/base:{image.platform.architecture}", tmp_path / image.platform.architecture)
        entries.append(
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": image.digest,
                "size": len(image.manifest),
                "platform": {"os": "linux", "architecture": image.platform.architecture},
            }
        )
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    put(f"http://{registry}/v2/base/manifests/both", index, "application/vnd.oci.image.index.v1+json")
    for image in images:
        assert read_image(source(f"{registry}/base:both", session), image.platform).digest == image.digest
    with pytest.raises(ProjectError, match="no image for linux/riscv64; it has linux/amd64, linux/arm64"):
        read_image(source(f"{registry}/base:both", session), Platform("riscv64"))
    with pytest.raises(ProjectError, match="is for linux/arm64, not for linux/amd64"):
        read_image(source(f"{registry}/base:arm64", session), Platform("amd64"))


def put(url: str, content: bytes, media_type: str) -> None:
    import urllib.request

    request = urllib.request.Request(url, content, {"Content-Type": media_type}, method="PUT")
    urllib.request.urlopen(request).close()


def test_a_missing_image_is_said_to_be_missing(session: Session, registry: str) -> None:
    with pytest.raises(NetworkError, match="The registry has no") as caught:
        source(f"{registry}/nowhere:1", session).top()
    assert caught.value.hint is not None
    assert "docker login" in caught.value.hint


def test_a_registry_that_is_not_there_is_a_network_error(session: Session) -> None:
    with pytest.raises(NetworkError, match="refused"):
        source("127.0.0.1:9/base:1", session).top()


def test_offline_asks_nobody(session: Session) -> None:
    with pytest.raises(NetworkError, match="offline"):
        source("127.0.0.1:9/base:1", replace(session, offline=True)).top()


def test_a_blob_that_the_registry_has_damaged_is_refused(
    session: Session, registry: str, small_image: MakeImage, tmp_path: Path
) -> None:
    image = small_image()
    push(image, session, f"{registry}/base:1", tmp_path / "layout")
    forget(image, session)
    name = image.layers[0].digest.removeprefix("sha256:")
    (stored,) = (tmp_path / "registry" / "data").rglob(f"sha256/{name[:2]}/{name}/data")
    stored.write_bytes(bytes(image.layers[0].size))
    base = source(f"{registry}/base:1", session)
    layers = read_image(base, Platform()).manifest.layers
    with pytest.raises(IntegrityError, match="sha256 is"):
        base.pull(layers, session)
    stored.write_bytes(b"short")
    with pytest.raises(LightshipError, match="bytes instead of"):
        base.pull(layers, session)
    assert not session.cache.has_blob(image.layers[0].digest)
    assert not list((session.cache.root / "tmp").iterdir())


def test_a_private_registry_is_entered_with_dockers_configuration(
    session: Session, start_registry: Callable[..., str], small_image: MakeImage, tmp_path: Path
) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    settings = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "test",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(tmp_path / "htpasswd"),
    }
    image = small_image()
    address = start_registry(settings)
    push(image, session, f"{address}/base:1", tmp_path / "layout", f"--dest-creds={ACCOUNT}")
    forget(image, session)
    nobody = replace(session, environ={"HOME": str(tmp_path / "nobody")})
    with pytest.raises(NetworkError, match="401"):
        source(f"{address}/base:1", nobody).top()
    for environ in accounts_of(address, tmp_path):
        known = replace(session, environ=environ)
        base = source(f"{address}/base:1", known)
        base.pull(read_image(base, Platform()).manifest.layers, known)
        assert session.cache.has_blob(image.layers[0].digest)
        forget(image, session)


def accounts_of(address: str, directory: Path) -> list[dict[str, str]]:
    """The account as Docker, a credential helper and Podman keep it."""
    encoded = base64.b64encode(ACCOUNT.encode()).decode()
    user, _, secret = ACCOUNT.partition(":")
    for name, content in {
        "docker": {"auths": {address: {"auth": encoded}}},
        "helped": {"credHelpers": {address: "test"}},
        "stored": {"credsStore": "test"},
    }.items():
        (directory / name).mkdir()
        (directory / name / "config.json").write_text(json.dumps(content))
    (directory / "auth.json").write_text(json.dumps({"auths": {f"{address}/base": {"auth": encoded}}}))
    helper = directory / "docker-credential-test"
    reply = json.dumps({"ServerURL": address, "Username": user, "Secret": secret})
    helper.write_text(f"#!/bin/sh\nread registry\ntest \"$1 $registry\" = 'get {address}' && echo '{reply}'\n")
    helper.chmod(0o755)
    home = {"HOME": str(directory / "nobody"), "PATH": f"{directory}:/usr/bin:/bin"}
    return [
        {**home, "DOCKER_CONFIG": str(directory / "docker")},
        {**home, "DOCKER_CONFIG": str(directory / "helped")},
        {**home, "DOCKER_CONFIG": str(directory / "stored")},
        {**home, "REGISTRY_AUTH_FILE": str(directory / "auth.json")},
    ]


def test_dockers_own_format_is_pulled(
    session: Session, registry: str, small_image: MakeImage, tmp_path: Path
) -> None:
    image = small_image(compression=Compression.GZIP)
    layout = write_layout(image, session.cache, tmp_path / "layout", name="x:1")
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--format=v2s2", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"oci:{layout}:1", f"docker://{registry}/base:1"], check=True, capture_output=True)
    forget(image, session)
    base = source(f"{registry}/base:1", session)
    pulled = read_image(base, Platform())
    assert pulled.manifest.layers[0].media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert [diff_id for _, diff_id in pulled.layers] == [layer.diff_id for layer in image.layers]
    base.pull(pulled.manifest.layers, session)
    assert all(session.cache.has_blob(layer.digest) for layer in image.layers)
