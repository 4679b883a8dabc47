"""Pushing to a real registry on loopback, read back by skopeo and by our own pull."""

from __future__ import annotations

import base64
import json
import random
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lightship.errors import NetworkError, ProjectError
from lightship.layers import Compression
from lightship.oci.image import BASE_DIGEST, BASE_NAME, Image, Platform
from lightship.oci.layout import write_layout
from lightship.oci.name import Reference
from lightship.oci.published import read_image
from lightship.oci.push import push_image
from lightship.oci.registry import RegistrySource
from lightship.oci.stored import read_layout
from lightship.oci.upload import Outcome
from lightship.session import Session

pytestmark = [pytest.mark.tool("docker-registry")]
MakeImage = Callable[..., Image]
ACCOUNT = "harbour:quay-side"
HTPASSWD = "harbour:$2b$04$abcdefghijklmnopqrstuu8vk5LPmQ72XBmL2RJyHZpZzHVdSFaEW\n"  # bcrypt, as the registry wants


def pulled(name: str, session: Session, directory: Path) -> str:
    """The digest of what a fresh cache pulls, every byte of it verified."""
    fresh = replace(session, cache=type(session.cache)(directory))
    source = RegistrySource(Reference.parse(name), fresh)
    image = read_image(source, Platform())
    source.pull(image.manifest.layers, fresh)
    assert all(fresh.cache.has_blob(layer.digest, layer.size) for layer in image.manifest.layers)
    return image.digest


@pytest.mark.tool("skopeo")
@pytest.mark.parametrize("compression", list(Compression))
def test_what_is_pushed_is_what_others_read(
    session: Session, registry: str, small_image: MakeImage, tmp_path: Path, compression: Compression
) -> None:
    image = small_image(compression=compression)
    name = f"{registry}/team/iris:1"
    pushed = push_image(image, Reference.parse(name), session)
    assert pushed.digest == image.digest
    assert set(pushed.blobs.values()) == {Outcome.SENT}
    assert pushed.sent_bytes == image.size
    inspect = ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"]
    seen = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)
    assert seen["Digest"] == image.digest
    assert seen["Layers"] == [layer.digest for layer in image.layers]
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false"]
    copy += ["--dest-oci-accept-uncompressed-layers", f"docker://{name}", f"oci:{tmp_path / 'copy'}:1"]
    subprocess.run(copy, check=True, capture_output=True)
    assert pulled(name, session, tmp_path / "fresh") == image.digest


def test_after_a_change_of_code_only_the_app_the_config_and_the_manifest_travel(
    session: Session, registry: str, small_image: MakeImage
) -> None:
    reference = Reference.parse(f"{registry}/iris:1")
    push_image(small_image("one"), reference, session)
    changed = small_image("two")
    again = push_image(changed, reference, session)
    sent = {digest for digest, outcome in again.blobs.items() if outcome is Outcome.SENT}
    assert sent == {changed.layers[-1].digest, changed.config_digest}
    assert again.sent_bytes == changed.layers[-1].size + len(changed.config) + len(changed.manifest)
    assert set(push_image(changed, reference, session).blobs.values()) == {Outcome.THERE}


def test_layers_of_a_base_from_the_same_registry_are_mounted(
    session: Session, registry: str, small_image: MakeImage, tmp_path: Path
) -> None:
    base = small_image("base")
    base_name = f"{registry}/bases/python:3"
    push_image(base, Reference.parse(base_name), session)
    image = based_on(base, base_name, small_image("app"))
    pushed = push_image(image, Reference.parse(f"{registry}/iris:1"), session)
    assert [pushed.blobs[layer.digest] for layer in image.layers] == [Outcome.MOUNTED, Outcome.SENT]
    assert pulled(f"{registry}/iris:1", session, tmp_path / "fresh") == image.digest


def based_on(base: Image, name: str, image: Image) -> Image:
    """The image as if its first layer had come from a base in a registry."""
    annotations = {BASE_NAME: name, BASE_DIGEST: base.digest}
    layers = (replace(base.layers[0], kind="base"), *image.layers[1:])
    return replace(image, layers=layers, annotations=tuple(sorted(annotations.items())))


def test_an_image_that_was_built_before_keeps_its_digest(
    session: Session, registry: str, small_image: MakeImage, tmp_path: Path
) -> None:
    image = replace(small_image(), annotations=(("dev.lightship.version", "x"),))
    again = read_layout(write_layout(image, session.cache, tmp_path / "layout", name="x:1"), session)
    assert push_image(again, Reference.parse(f"{registry}/iris:1"), session).digest == image.digest


def test_a_private_registry_takes_pushes_of_who_is_logged_in(
    session: Session, start_registry: Callable[..., str], small_image: MakeImage, tmp_path: Path
) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    address = start_registry(
        {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "test",
            "REGISTRY_AUTH_HTPASSWD_PATH": str(tmp_path / "htpasswd"),
        }
    )
    image, reference = small_image(), Reference.parse(f"{address}/iris:1")
    nobody = replace(session, environ={"HOME": str(tmp_path / "nobody")})
    with pytest.raises(NetworkError, match="401") as caught:
        push_image(image, reference, nobody)
    assert caught.value.hint is not None
    assert f"docker login {address}" in caught.value.hint
    for account, allowed in ((ACCOUNT, True), ("harbour:wrong", False)):
        auth = {"auths": {address: {"auth": base64.b64encode(account.encode()).decode()}}}
        (tmp_path / "config.json").write_text(json.dumps(auth))
        known = replace(session, environ={"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
        if allowed:
            assert push_image(image, reference, known).digest == image.digest
            continue
        with pytest.raises(NetworkError, match="401") as caught:
            push_image(image, reference, known)
        assert "wrong:" not in str(caught.value)


def test_a_reference_by_digest_cannot_be_pushed_to(session: Session, small_image: MakeImage) -> None:
    image = small_image()
    with pytest.raises(ProjectError, match="by its digest"):
        push_image(image, Reference.parse(f"localhost:5000/iris@{image.digest}"), session)


def test_nobody_is_asked_offline(session: Session, small_image: MakeImage) -> None:
    with pytest.raises(NetworkError, match="offline"):
        push_image(small_image(), Reference.parse("127.0.0.1:9/iris:1"), replace(session, offline=True))


def test_a_registry_that_is_not_there_is_a_network_error(session: Session, small_image: MakeImage) -> None:
    with pytest.raises(NetworkError, match="refused"):
        push_image(small_image(), Reference.parse("127.0.0.1:9/iris:1"), session)


class CuttingProxy:
    """Between a client and a registry: breaks the first connection that carries more than `limit` bytes upwards."""

    def __init__(self, target: str, limit: int) -> None:
        self._target = target.rpartition(":")
        self._left: int | None = limit
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.uploads: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._target[0], int(self._target[2])))
                threading.Thread(target=self._copy, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._copy, args=(server, client, False), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, upwards: bool) -> None:
        passed = 0
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                if upwards and piece.startswith((b"PUT", b"PATCH")):
                    self.uploads.append(piece.partition(b" ")[0])
                target.sendall(piece)
                passed += len(piece)
                if upwards and self._left is not None and passed > self._left:
                    self._left = None
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_an_upload_to_a_real_registry_ends_right_after_the_connection_was_cut(
    session: Session, registry: str, small_image: MakeImage, tmp_path: Path
) -> None:
    image = small_image(random.Random(5).randbytes(4 << 20).hex(), compression=Compression.NONE)
    proxy = CuttingProxy(registry, limit=3 << 20)
    try:
        reference = Reference.parse(f"{proxy.address}/iris:1")
        push_image(replace(image, layers=image.layers[-1:]), reference, session)
    finally:
        proxy.close()
    assert proxy.uploads.count(b"PUT") > 3  # the layer twice, the config and the manifest: this one cannot go on
    assert (
        pulled(f"{registry}/iris:1", session, tmp_path / "fresh") == replace(image, layers=image.layers[-1:]).digest
    )
