"""Pushes and pulls while the registry fails: a registry in memory plays all that goes wrong."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightship.errors import IntegrityError, NetworkError
from lightship.layers import Compression
from lightship.oci.image import BASE_DIGEST, BASE_NAME, Image, Platform, digest_of
from lightship.oci.login import RegistryLogin
from lightship.oci.name import Reference
from lightship.oci.published import read_image
from lightship.oci.push import push_image
from lightship.oci.registry import RegistrySource
from lightship.oci.repository import Answer as Heard
from lightship.oci.repository import Repository
from lightship.oci.upload import Outcome
from lightship.session import Session
from lightship.testing import Answer, Fault, Faults, MemoryRegistry, Request
from lightship.transfer import _pause
from lightship.transport import TransferError

MakeImage = Callable[..., Image]
ACCOUNT = ("harbour", "quay-side")
LARGE = 3 << 20  # bytes of a body that is cut in its middle


def logged_in(session: Session, registry: MemoryRegistry, directory: Path) -> Session:
    directory.mkdir(exist_ok=True)
    auth = {"auths": {registry.address: {"auth": base64.b64encode(":".join(ACCOUNT).encode()).decode()}}}
    (directory / "config.json").write_text(json.dumps(auth))
    return replace(session, environ={"DOCKER_CONFIG": str(directory), "HOME": str(directory)})


def large_image(make: MakeImage, seed: int = 0) -> Image:
    """An image with a layer of some size that nothing compresses."""
    text = random.Random(seed).randbytes(LARGE // 2).hex()
    return make(text, compression=Compression.NONE)


def pull(name: str, session: Session, directory: Path) -> str:
    """The digest of what a fresh cache pulls; everything in that cache is what its name says."""
    fresh = replace(session, cache=type(session.cache)(directory))
    source = RegistrySource(Reference.parse(name), fresh)
    image = read_image(source, Platform())
    source.pull(image.manifest.layers, fresh)
    for layer in image.manifest.layers:
        assert digest_of(fresh.cache.blob_path(layer.digest).read_bytes()) == layer.digest
    return image.digest


def rounds(number: int, session: Session, make: MakeImage, directory: Path) -> list[Fault]:
    """Push and pull again and again while a fifth of all requests fail; the faults that happened."""
    faults = Faults(rate=0.2, seed=20)
    with MemoryRegistry(faults=faults, account=ACCOUNT) as registry:
        known = logged_in(session, registry, directory / "home")
        for turn in range(number):
            image = make(f"turn {turn}")
            name = f"{registry.address}/team/iris:{turn}"
            assert push_image(image, Reference.parse(name), known).digest == image.digest
            held = registry.repositories["team/iris"]
            assert held.manifests[held.tags[str(turn)]][1] == image.manifest
            assert all(digest_of(content) == digest for digest, content in held.blobs.items())
            assert pull(name, known, directory / f"pull-{turn}") == image.digest
    return faults.happened


def test_pushes_and_pulls_end_right_while_a_fifth_of_all_requests_fail(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    assert len(set(rounds(3, session, small_image, tmp_path))) >= 5


@pytest.mark.slow
def test_a_hundred_pushes_and_pulls_end_right_while_a_fifth_of_all_requests_fail(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    assert set(rounds(100, session, small_image, tmp_path)) == set(Fault)


def once(method: str, part: str, fault: Fault, times: int = 1) -> Faults:
    """The fault for the first requests of a method whose path has the part."""
    left = [times]

    def choose(asked: str, path: str) -> Fault | None:
        if asked != method or part not in path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return Faults(choose=choose)


def one_layer(image: Image) -> Image:
    return replace(image, layers=image.layers[-1:])


@pytest.mark.parametrize("relative", [True, False])
def test_a_cut_upload_goes_on_where_it_broke(session: Session, small_image: MakeImage, *, relative: bool) -> None:
    image = one_layer(large_image(small_image))
    layer = image.layers[0]
    faults = once("PUT", layer.digest, Fault.CUT_EARLY)
    with MemoryRegistry(faults=faults, relative_locations=relative) as registry:
        push_image(image, Reference.parse(f"{registry.address}/iris:1"), session)
        (patch,) = [request for request in registry.requests if request.method == "PATCH"]
        assert registry.repositories["iris"].blobs[layer.digest] == session.cache.blob_path(layer.digest).read_bytes()
    assert patch.size == layer.size - layer.size // 2
    assert patch.headers["content-range"] == f"{layer.size // 2}-{layer.size - 1}"


def test_where_parts_are_not_taken_the_whole_is_sent_again(session: Session, small_image: MakeImage) -> None:
    image = one_layer(large_image(small_image))
    layer = image.layers[0]
    with MemoryRegistry(faults=once("PUT", layer.digest, Fault.CUT_EARLY), takes_patches=False) as registry:
        push_image(image, Reference.parse(f"{registry.address}/iris:1"), session)
        sizes = [r.size for r in registry.requests if r.method == "PUT" and layer.digest in r.path]
        assert sizes == [layer.size, layer.size]
        assert len(registry.asked("PATCH")) == 1


def test_an_upload_whose_answer_was_lost_is_not_sent_again(session: Session, small_image: MakeImage) -> None:
    image = one_layer(large_image(small_image))
    layer = image.layers[0]
    with MemoryRegistry(faults=once("PUT", layer.digest, Fault.CUT_LATE)) as registry:
        push_image(image, Reference.parse(f"{registry.address}/iris:1"), session)
        assert len([path for path in registry.asked("PUT") if layer.digest in path]) == 1


@pytest.mark.parametrize("fault", list(Fault))
def test_each_fault_of_an_upload_is_overcome(
    session: Session, small_image: MakeImage, tmp_path: Path, fault: Fault
) -> None:
    image = one_layer(large_image(small_image))
    with MemoryRegistry(faults=once("PUT", image.layers[0].digest, fault), account=ACCOUNT) as registry:
        known = logged_in(session, registry, tmp_path / "home")
        push_image(image, Reference.parse(f"{registry.address}/iris:1"), known)
        assert registry.faults.happened == [fault]
        assert pull(f"{registry.address}/iris:1", known, tmp_path / "pull") == image.digest


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("fault", list(Fault))
def test_each_fault_of_a_pull_is_overcome(
    session: Session, small_image: MakeImage, tmp_path: Path, fault: Fault, part: str
) -> None:
    image = small_image()
    with MemoryRegistry(account=ACCOUNT) as registry:
        known = logged_in(session, registry, tmp_path / "home")
        push_image(image, Reference.parse(f"{registry.address}/iris:1"), known)
        registry.faults = once("GET", part, fault)
        assert pull(f"{registry.address}/iris:1", known, tmp_path / "pull") == image.digest
        assert registry.faults.happened == [fault]


@pytest.mark.parametrize("fault", [Fault.WRONG_DIGEST, Fault.TRUNCATED])
@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_wrong_bytes_that_do_not_go_away_are_refused(
    session: Session, small_image: MakeImage, tmp_path: Path, fault: Fault, part: str
) -> None:
    image = small_image()
    with MemoryRegistry() as registry:
        push_image(image, Reference.parse(f"{registry.address}/iris:1"), session)
        registry.faults = once("GET", part, fault, times=1000)
        with pytest.raises(IntegrityError):
            pull(f"{registry.address}/iris:1", session, tmp_path / "pull")
        assert len(registry.faults.happened) < 10


def test_tokens_that_end_while_much_is_pushed_are_renewed(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    image = small_image()
    with MemoryRegistry(account=ACCOUNT, token_uses=2) as registry:
        known = logged_in(session, registry, tmp_path / "home")
        name = f"{registry.address}/team/iris:1"
        push_image(image, Reference.parse(name), known)
        tokens = [path for path in registry.asked("GET") if path.startswith("/token")]
        assert len(tokens) > 2
        assert "scope=repository%3Ateam%2Firis%3Apull%2Cpush" in tokens[0]
        assert pull(name, known, tmp_path / "pull") == image.digest


def test_a_token_without_the_right_is_not_fetched_for_ever(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    with MemoryRegistry(account=ACCOUNT, token_uses=0) as registry:
        known = logged_in(session, registry, tmp_path / "home")
        with pytest.raises(NetworkError, match="401") as caught:
            push_image(small_image(), Reference.parse(f"{registry.address}/iris:1"), known)
        assert "docker login" in str(caught.value.hint)
        assert len([path for path in registry.asked("GET") if path.startswith("/token")]) < 10


def test_basic_accounts_are_shown_with_each_request(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    with MemoryRegistry(account=ACCOUNT, basic=True) as registry:
        known = logged_in(session, registry, tmp_path / "home")
        assert push_image(image, Reference.parse(f"{registry.address}/iris:1"), known).digest == image.digest


def test_a_mount_that_is_refused_becomes_an_upload(session: Session, small_image: MakeImage) -> None:
    with MemoryRegistry() as registry:
        image = small_image()
        annotations = ((BASE_DIGEST, image.digest), (BASE_NAME, f"{registry.address}/bases/python:3"))
        layers = (replace(image.layers[0], kind="base"), *image.layers[1:])
        image = replace(image, layers=layers, annotations=annotations)
        pushed = push_image(image, Reference.parse(f"{registry.address}/iris:1"), session)
        assert pushed.blobs[layers[0].digest] is Outcome.SENT
        assert any("from=bases%2Fpython" in path for path in registry.asked("POST"))


def test_a_damaged_layer_of_the_cache_is_named_as_such(session: Session, small_image: MakeImage) -> None:
    image = small_image()
    path = session.cache.blob_path(image.layers[0].digest)
    path.write_bytes(bytes(image.layers[0].size))
    with MemoryRegistry() as registry:
        with pytest.raises(IntegrityError, match="damaged in the cache"):
            push_image(image, Reference.parse(f"{registry.address}/iris:1"), session)
        assert not registry.repositories["iris"].tags


def test_an_upload_elsewhere_never_sees_the_credentials(
    session: Session, small_image: MakeImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = small_image()
    with MemoryRegistry() as storage, MemoryRegistry(account=ACCOUNT) as registry:
        known = logged_in(session, registry, tmp_path / "home")
        begin = registry.answer

        def elsewhere(request: Request, body: bytes) -> Answer:
            answer = begin(request, body)
            if answer.status == 202:
                answer.headers["Location"] = f"http://{storage.address}/put/here?signature=1"
            return answer

        monkeypatch.setattr(registry, "answer", elsewhere)
        monkeypatch.setattr(storage, "answer", lambda request, body: Answer(201))
        with pytest.raises(NetworkError, match="names what is not here"):
            push_image(image, Reference.parse(f"{registry.address}/iris:1"), known)
        assert len(storage.asked("PUT")) == 3
        assert all("signature=1&digest=sha256:" in path for path in storage.asked("PUT"))
        assert not any("authorization" in request.headers for request in storage.requests)


@pytest.mark.parametrize("location", ["", "http://example.org/x", "https://127.0.0.1/x", "ftp://x/", "http://[::1"])
def test_a_registry_elsewhere_cannot_send_us_to_this_machine_or_into_the_open(
    session: Session, location: str
) -> None:
    reference = Reference.parse("registry.example.org/iris:1")
    repository = Repository(reference, session, RegistryLogin(reference, session))
    with pytest.raises(TransferError):
        repository.where(Heard(202, {"Location": location}), repository.url("blobs/uploads/"))
    assert repository.where(Heard(202, {"Location": "/v2/iris/u?a=b"}), repository.url("x")).endswith("iris/u?a=b")


def test_a_registry_is_not_waited_for_longer_than_is_reasonable() -> None:
    assert _pause(TransferError("later", "refused", wait=3600), 1) == 20
    assert _pause(TransferError("soon", "refused", wait=3), 1) == 3
