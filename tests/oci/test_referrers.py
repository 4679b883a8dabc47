"""What refers to an image: put into registries that list it and into those that do not, listed, read, never lost."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightship.cache import Cache
from lightship.errors import IntegrityError, NetworkError
from lightship.oci import referrers as referrers_module
from lightship.oci.artifact import Artifact, Content, subject_of
from lightship.oci.image import INDEX_TYPE, MANIFEST_TYPE, Image, canonical_json, digest_of
from lightship.oci.name import Reference
from lightship.oci.push import push_image
from lightship.oci.referrer_list import fallback_tag
from lightship.oci.referrers import Way, attach, list_referrers, push_artifact, read_artifact
from lightship.session import Session
from lightship.testing import Answer, Fault, Faults, MemoryRegistry, Request

MakeImage = Callable[..., Image]
SBOM = "application/spdx+json"
SIGNATURE = "application/vnd.example.signature.v1+json"


def artifact_about(image: Image, text: str = "{}", kind: str = SBOM) -> Artifact:
    return Artifact(kind, (Content(kind, text.encode()),), subject_of(image), (("org.example.note", text),))


@pytest.fixture(params=["with the API", "paged", "without the API"])
def memory(request: pytest.FixtureRequest) -> Iterator[MemoryRegistry]:
    settings: dict[str, dict[str, Any]] = {
        "with the API": {},
        "paged": {"page": 1},
        "without the API": {"lists_referrers": False},
    }
    with MemoryRegistry(**settings[request.param]) as registry:
        yield registry


def test_artifacts_are_attached_listed_and_read_back(
    memory: MemoryRegistry, session: Session, small_image: MakeImage
) -> None:
    image, reference = small_image(), Reference.parse(f"{memory.address}/team/iris:1")
    push_image(image, reference, session)
    assert list_referrers(reference, image.digest, session) == ()
    artifacts = (artifact_about(image, "a"), artifact_about(image, "b"), artifact_about(image, "c", SIGNATURE))
    attached = attach(artifacts, reference, session)
    expected = Way.API if memory.lists_referrers else Way.TAG
    assert [each.way for each in attached] == [expected] * 3
    assert [each.artifact for each in attached] == list(artifacts)
    listed = list_referrers(reference, image.digest, session)
    assert {each.digest for each in listed} == {each.digest for each in artifacts}
    (signature,) = list_referrers(reference, image.digest, session, artifact_type=SIGNATURE)
    assert signature.artifact_type == SIGNATURE
    assert signature.annotations == {"org.example.note": "c"}
    assert read_artifact(reference.at(signature.digest), session) == artifacts[2]
    assert memory.repositories["team/iris"].tags["1"] == image.digest  # the image is what it was
    assert (fallback_tag(image.digest) in memory.repositories["team/iris"].tags) is not memory.lists_referrers


def test_attaching_again_sends_nothing(memory: MemoryRegistry, session: Session, small_image: MakeImage) -> None:
    image, reference = small_image(), Reference.parse(f"{memory.address}/iris:1")
    artifacts = (artifact_about(image, "a"), artifact_about(image, "b"))
    assert sum(each.sent_bytes for each in attach(artifacts, reference, session)) > 0
    memory.requests.clear()
    again = attach(artifacts, reference, session)
    assert {(each.way, each.sent_bytes) for each in again} == {(Way.THERE, 0)}
    assert memory.asked("PUT") == memory.asked("POST") == []
    more = attach((*artifacts, artifact_about(image, "c")), reference, session)
    assert [each.way is Way.THERE for each in more] == [True, True, False]
    assert len(list_referrers(reference, image.digest, session)) == 3


def test_an_artifact_that_was_pushed_but_not_listed_is_listed(session: Session, small_image: MakeImage) -> None:
    image = small_image()
    with MemoryRegistry(lists_referrers=False) as memory:
        reference = Reference.parse(f"{memory.address}/iris:1")
        artifact = artifact_about(image)
        attach([artifact], reference, session)
        del memory.repositories["iris"].tags[fallback_tag(image.digest)]  # as if the push had ended before the list
        assert attach([artifact], reference, session)[0].way is Way.TAG
        assert [each.digest for each in list_referrers(reference, image.digest, session)] == [artifact.digest]


def test_what_others_listed_stays_as_they_wrote_it(session: Session, small_image: MakeImage) -> None:
    image = small_image()
    theirs = {
        "mediaType": MANIFEST_TYPE,
        "digest": "sha256:" + "1" * 64,
        "size": 7,
        "artifactType": SIGNATURE,
        "org.example.own": {"kept": True},
    }
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [theirs], "annotations": {"their": "note"}}
    with MemoryRegistry(lists_referrers=False) as memory:
        reference = Reference.parse(f"{memory.address}/iris:1")
        push_image(image, reference, session)
        repository = memory.repositories["iris"]
        tag = fallback_tag(image.digest)
        content = canonical_json(index)
        repository.manifests[digest_of(content)] = (INDEX_TYPE, content)
        repository.tags[tag] = digest_of(content)
        artifact = artifact_about(image)
        attach([artifact], reference, session)
        written = json.loads(repository.manifests[repository.tags[tag]][1])
    assert written == index | {"manifests": [theirs, artifact.descriptor]}


def test_a_tag_that_holds_something_else_is_not_overwritten(session: Session, small_image: MakeImage) -> None:
    image = small_image()
    with MemoryRegistry(lists_referrers=False) as memory:
        reference = Reference.parse(f"{memory.address}/iris:1")
        tagged = Reference.parse(f"{memory.address}/iris:{fallback_tag(image.digest)}")
        push_image(small_image("other"), tagged, session)
        before = dict(memory.repositories["iris"].tags)
        with pytest.raises(IntegrityError, match="not a list"):
            attach([artifact_about(image)], reference, session)
        assert memory.repositories["iris"].tags == before


class Rival(MemoryRegistry):
    """A registry where somebody, who read the list before we wrote ours, writes over it some times."""

    def __init__(self, times: int) -> None:
        super().__init__(lists_referrers=False)
        self.times = times

    def answer(self, request: Request, body: bytes) -> Answer:
        before = dict(self.repositories["iris"].tags) if "iris" in self.repositories else {}
        answer = super().answer(request, body)
        if request.method == "PUT" and "/manifests/sha256-" in request.path and self.times:
            self.times -= 1
            tag = request.path.rpartition("/")[2]
            tags = self.repositories["iris"].tags
            if tag in before:
                tags[tag] = before[tag]
            else:
                del tags[tag]
        return answer


def test_an_entry_that_somebody_wrote_over_is_written_again(session: Session, small_image: MakeImage) -> None:
    image = small_image()
    with Rival(times=2) as registry:
        reference = Reference.parse(f"{registry.address}/iris:1")
        artifact = artifact_about(image)
        attach([artifact], reference, session)
        assert [each.digest for each in list_referrers(reference, image.digest, session)] == [artifact.digest]


def test_somebody_who_never_stops_is_an_error(
    session: Session, small_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(referrers_module, "_SETTLED", (0.0, 0.001))
    with Rival(times=1000) as registry, pytest.raises(NetworkError, match="keeps writing"):
        attach([artifact_about(small_image())], Reference.parse(f"{registry.address}/iris:1"), session)


def test_several_machines_that_attach_at_once_lose_nothing(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    image = small_image()
    artifacts = [artifact_about(image, str(number)) for number in range(6)]
    with MemoryRegistry(lists_referrers=False) as memory:
        reference = Reference.parse(f"{memory.address}/iris:1")
        push_image(image, reference, session)

        def work(number: int) -> None:
            own = replace(session, cache=Cache(tmp_path / f"machine-{number}"))  # no lock is shared
            attach([artifacts[number]], reference, own)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(artifacts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        listed = {each.digest for each in list_referrers(reference, image.digest, session)}
    assert listed == {artifact.digest for artifact in artifacts}


@pytest.mark.parametrize("lists_referrers", [True, False])
def test_a_registry_that_fails_often_ends_right(
    session: Session, small_image: MakeImage, lists_referrers: bool
) -> None:
    image = small_image()
    faults = Faults(0.2, seed=7, kinds=tuple(kind for kind in Fault if kind is not Fault.SLOW))
    with MemoryRegistry(faults=faults, lists_referrers=lists_referrers) as memory:
        reference = Reference.parse(f"{memory.address}/iris:1")
        artifacts = [artifact_about(image, str(number)) for number in range(4)]
        attach(artifacts, reference, session)
        listed = {each.digest for each in list_referrers(reference, image.digest, session)}
    assert listed == {artifact.digest for artifact in artifacts}


@pytest.mark.parametrize("lists_referrers", [True, False])
def test_a_private_registry_is_asked_with_the_users_account(
    session: Session, small_image: MakeImage, tmp_path: Path, lists_referrers: bool
) -> None:
    image, artifact = small_image(), artifact_about(small_image())
    with MemoryRegistry(account=("harbour", "quay-side"), lists_referrers=lists_referrers, token_uses=3) as registry:
        account = base64.b64encode(b"harbour:quay-side").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": account}}}))
        known = replace(session, environ={"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
        reference = Reference.parse(f"{registry.address}/iris:1")
        with pytest.raises(NetworkError, match="401"):
            attach([artifact], reference, replace(session, environ={"HOME": str(tmp_path)}))
        attach([artifact], reference, known)
        assert [each.digest for each in list_referrers(reference, image.digest, known)] == [artifact.digest]


@pytest.mark.tool("docker-registry")
@pytest.mark.tool("skopeo")
def test_a_real_registry_without_the_api_holds_what_others_can_read(
    session: Session, registry: str, small_image: MakeImage
) -> None:
    image, reference = small_image(), Reference.parse(f"{registry}/team/iris:1")
    push_image(image, reference, session)
    artifacts = [artifact_about(image, '{"spdxVersion": "SPDX-2.3"}'), artifact_about(image, "{}", SIGNATURE)]
    first = attach(artifacts[:1], reference, session)
    second = attach(artifacts, reference, session)
    assert [each.way for each in (*first, *second)] == [Way.TAG, Way.THERE, Way.TAG]
    assert {(each.way, each.sent_bytes) for each in attach(artifacts, reference, session)} == {(Way.THERE, 0)}
    assert {each.digest for each in list_referrers(reference, image.digest, session)} == {
        each.digest for each in artifacts
    }
    raw = ["skopeo", "inspect", "--tls-verify=false", "--raw"]
    tag = f"docker://{registry}/team/iris:{fallback_tag(image.digest)}"
    index = json.loads(subprocess.run([*raw, tag], check=True, capture_output=True).stdout)
    assert [each["artifactType"] for each in index["manifests"]] == [SBOM, SIGNATURE]
    named = f"docker://{registry}/team/iris@{index['manifests'][0]['digest']}"
    manifest = json.loads(subprocess.run([*raw, named], check=True, capture_output=True).stdout)
    assert manifest["subject"]["digest"] == image.digest
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    (entry,) = list_referrers(reference, image.digest, session, artifact_type=SBOM)
    assert read_artifact(reference.at(entry.digest), session).contents[0].data == b'{"spdxVersion": "SPDX-2.3"}'


@pytest.mark.tool("docker-registry")
def test_an_artifact_may_stand_under_a_tag_with_a_config_of_its_own(session: Session, registry: str) -> None:
    """The older form of signatures: found by its tag, annotations on the document."""
    reference = Reference.parse(f"{registry}/iris:sha256-00.sig")
    artifact = Artifact(
        SIGNATURE,
        (Content("application/vnd.example.payload", b"{}", (("org.example/signature", "MEUC"),)),),
        config=Content("application/vnd.oci.image.config.v1+json", b'{"architecture":""}'),
    )
    push_artifact(artifact, reference, session)
    found = read_artifact(reference, session)
    assert (found.contents, found.config, found.subject) == (artifact.contents, artifact.config, None)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>not found</html>",
        b"[" * 100_000,
        b'{"schemaVersion": 2, "manifests": [{"digest": "sha256:' + b"0" * 64 + b'", "size": -1, "mediaType": "x"}]}',
    ],
)
def test_a_hostile_list_is_refused(session: Session, content: bytes) -> None:
    class Hostile(MemoryRegistry):
        def answer(self, request: Request, body: bytes) -> Answer:
            return Answer(200, {"Content-Type": INDEX_TYPE}, content)

    with Hostile() as registry, pytest.raises(IntegrityError):
        list_referrers(Reference.parse(f"{registry.address}/iris:1"), "sha256:" + "0" * 64, session)


def test_a_list_without_end_is_refused(session: Session) -> None:
    class Endless(MemoryRegistry):
        def answer(self, request: Request, body: bytes) -> Answer:
            start = int(request.query.get("start", "0")) + 1
            path = request.path.partition("?")[0]
            headers = {"Content-Type": INDEX_TYPE, "Link": f'<{path}?start={start}>; rel="next"'}
            return Answer(200, headers, b'{"schemaVersion": 2, "manifests": []}')

    with Endless() as registry, pytest.raises(IntegrityError, match="pages"):
        list_referrers(Reference.parse(f"{registry.address}/iris:1"), "sha256:" + "0" * 64, session)


def test_a_list_does_not_lead_to_another_host(session: Session) -> None:
    class Leading(MemoryRegistry):
        def answer(self, request: Request, body: bytes) -> Answer:
            headers = {"Content-Type": INDEX_TYPE, "Link": '<http://127.0.0.1:1/v2/>; rel="next"'}
            return Answer(200, headers, b'{"schemaVersion": 2, "manifests": []}')

    with Leading() as registry:
        assert list_referrers(Reference.parse(f"{registry.address}/iris:1"), "sha256:" + "0" * 64, session) == ()
