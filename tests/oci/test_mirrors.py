"""Mirrors: asked first, never believed, passed over when they fail; and registries.conf as engines read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightship.cache import Cache
from lightship.errors import NetworkError, ProjectError
from lightship.oci.image import Image
from lightship.oci.mirrors import VARIABLE, places
from lightship.oci.name import Reference
from lightship.oci.pull import pull_image
from lightship.oci.push import push_image
from lightship.session import Session
from lightship.testing import Fault, Faults, MemoryRegistry

MakeImage = Callable[..., Image]
DIGEST = "sha256:" + "a" * 64


def conf(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "registries.conf"
    path.write_text(text)
    return {VARIABLE: str(path)}


def named(text: str, environ: dict[str, str]) -> list[str]:
    return [str(place.reference) for place in places(Reference.parse(text), environ)]


@pytest.mark.parametrize(
    ("text", "image", "wanted"),
    [
        ("", "python:3.12", ["docker.io/library/python:3.12"]),
        (
            '[[registry]]\nprefix = "docker.io"\n[[registry.mirror]]\nlocation = "m.example/hub"\n',
            "python:3.12",
            ["m.example/hub/library/python:3.12", "docker.io/library/python:3.12"],
        ),
        (
            '[[registry]]\nlocation = "r.example/team"\n[[registry.mirror]]\nlocation = "m.example"\n',
            f"r.example/team/x@{DIGEST}",
            [f"m.example/x@{DIGEST}", f"r.example/team/x@{DIGEST}"],
        ),
        (
            '[[registry]]\nprefix = "r.example/team"\nlocation = "n.example"\n',
            "r.example/teams/x:1",
            ["r.example/teams/x:1"],
        ),
        (
            '[[registry]]\nprefix = "r.example"\nlocation = "n.example/all"\n',
            "r.example/a/x:1",
            ["n.example/all/a/x:1"],
        ),
        ('[[registry]]\nprefix = "*.example.com"\nlocation = "n.example"\n', "a.example.com/x:1", ["n.example/x:1"]),
        (
            '[[registry]]\nprefix = "r.example"\nlocation = "one.example"\n'
            '[[registry]]\nprefix = "r.example/deep"\nlocation = "two.example"\n',
            "r.example/deep/x:1",
            ["two.example/x:1"],
        ),
    ],
)
def test_names_are_moved_as_engines_move_them(tmp_path: Path, text: str, image: str, wanted: list[str]) -> None:
    assert named(image, conf(tmp_path, text)) == wanted


def test_what_is_blocked_is_not_pulled(tmp_path: Path) -> None:
    environ = conf(tmp_path, '[[registry]]\nprefix = "r.example/bad"\nblocked = true\n')
    with pytest.raises(NetworkError, match=r"blocks r\.example/bad"):
        places(Reference.parse("r.example/bad/x:1"), environ)


@pytest.mark.parametrize(
    "text",
    [
        "registry = 3",
        "[[registry]]\nblocked = true\n",
        "[[registry]\n",
        "\0",
        '[[registry]]\nprefix = "r.example"\n[[registry.mirror]]\nlocation = ""\n',
        '[[registry]]\nprefix = "r.example"\n[[registry.mirror]]\nlocation = "https://m.example"\n',
        '[[registry]]\nprefix = "r.example"\nlocation = "/x"\n',
    ],
)
def test_a_file_that_means_nothing_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProjectError, match=r"registries\.conf is not"):
        places(Reference.parse("r.example/x:1"), conf(tmp_path, text))


def test_the_users_file_stands_in_for_the_systems_and_additions_add(tmp_path: Path) -> None:
    system, home = tmp_path / "etc" / "registries.conf", tmp_path / "home"
    user = home / ".config" / "containers"
    for path, location in (
        (system, "system"),
        (user / "registries.conf", "user"),
        (user / "registries.conf.d" / "10-more.conf", "more"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = "b.example" if location == "more" else "a.example"
        path.write_text(f'[[registry]]\nprefix = "{prefix}"\nlocation = "{location}.example"\n')
    environ = {"HOME": str(home)}
    found = [places(Reference.parse(f"{one}.example/x:1"), environ, system=system)[0].reference for one in "ab"]
    assert [one.registry for one in found] == ["user.example", "more.example"]
    alone = places(Reference.parse("a.example/x:1"), {}, system=system)
    assert alone[0].reference.registry == "system.example"


def mirrored(tmp_path: Path, session: Session, origin: str, *mirrors: str, more: str = "") -> Session:
    text = f'[[registry]]\nlocation = "{origin}"\n' + "".join(
        f'[[registry.mirror]]\nlocation = "{mirror}"\n{more}' for mirror in mirrors
    )
    environ = {**session.environ, **conf(tmp_path, text)}
    return replace(session, cache=Cache(tmp_path / "fresh"), environ=environ)


def test_a_mirror_gives_everything_and_the_registry_is_not_asked(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    image = small_image()
    with MemoryRegistry() as origin, MemoryRegistry() as mirror:
        push_image(image, Reference.parse(f"{mirror.address}/team/x:1"), session)
        fresh = mirrored(tmp_path, session, f"{origin.address}/team", f"{mirror.address}/team")
        assert pull_image(Reference.parse(f"{origin.address}/team/x:1"), fresh).digest == image.digest
        assert not origin.asked("GET")


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.WRONG_DIGEST, Fault.TRUNCATED, Fault.CUT_LATE])
def test_a_mirror_that_fails_or_lies_is_passed_over(
    session: Session, small_image: MakeImage, tmp_path: Path, fault: Fault
) -> None:
    image = small_image()
    with MemoryRegistry() as origin, MemoryRegistry() as mirror:
        for registry in (origin, mirror):
            push_image(image, Reference.parse(f"{registry.address}/x:1"), session)
        mirror.faults = Faults(choose=lambda method, path: fault if method == "GET" and "/blobs/" in path else None)
        fresh = mirrored(tmp_path, session, origin.address, mirror.address)
        pulled = pull_image(Reference.parse(f"{origin.address}/x:1"), fresh)
        assert pulled.digest == image.digest
        assert all(fresh.cache.has_blob(layer.digest) for layer in image.layers)
        assert origin.asked("GET")


def test_a_mirror_without_the_image_is_passed_over(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    with MemoryRegistry() as origin, MemoryRegistry() as empty:
        push_image(image, Reference.parse(f"{origin.address}/x:1"), session)
        fresh = mirrored(tmp_path, session, origin.address, empty.address)
        assert pull_image(Reference.parse(f"{origin.address}/x:1"), fresh).digest == image.digest


def test_a_mirror_for_digests_only_does_not_say_what_a_tag_means(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    old, new = small_image("amd64"), replace(small_image("amd64"), created=1)
    assert old.digest != new.digest
    with MemoryRegistry() as origin, MemoryRegistry() as mirror:
        push_image(old, Reference.parse(f"{mirror.address}/x:1"), session)
        push_image(new, Reference.parse(f"{origin.address}/x:1"), session)
        for more, wanted in (("", old), ('pull-from-mirror = "digest-only"\n', new)):
            fresh = mirrored(tmp_path, session, origin.address, mirror.address, more=more)
            assert pull_image(Reference.parse(f"{origin.address}/x:1"), fresh).digest == wanted.digest


def test_passwords_go_to_their_own_host_only(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    import base64
    import json

    image = small_image()
    with MemoryRegistry(account=("ann", "secret")) as origin, MemoryRegistry() as mirror:
        logins = {"auths": {origin.address: {"auth": base64.b64encode(b"ann:secret").decode()}}}
        (tmp_path / "auth.json").write_text(json.dumps(logins))
        own = {**session.environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
        push_image(image, Reference.parse(f"{origin.address}/x:1"), replace(session, environ=own))
        fresh = mirrored(tmp_path, replace(session, environ=own), origin.address, mirror.address)
        assert pull_image(Reference.parse(f"{origin.address}/x:1"), fresh).digest == image.digest
        assert mirror.requests
        assert not [request for request in mirror.requests if "authorization" in request.headers]


def test_pushes_go_to_no_mirror(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    with MemoryRegistry() as origin, MemoryRegistry() as mirror:
        environ = mirrored(tmp_path, session, origin.address, mirror.address).environ
        push_image(small_image(), Reference.parse(f"{origin.address}/x:1"), replace(session, environ=environ))
        assert not mirror.requests


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="Could not read"):
        places(Reference.parse("r.example/x:1"), {VARIABLE: str(tmp_path / "absent.conf")})


def test_a_mirror_for_tags_only_is_not_asked_for_a_digest(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    image = small_image()
    with MemoryRegistry() as origin, MemoryRegistry() as mirror:
        for registry in (origin, mirror):
            push_image(image, Reference.parse(f"{registry.address}/x:1"), session)
        before = len(mirror.requests)
        more = 'pull-from-mirror = "tag-only"\n'
        fresh = mirrored(tmp_path, session, origin.address, mirror.address, more=more)
        assert pull_image(Reference.parse(f"{origin.address}/x@{image.digest}"), fresh).digest == image.digest
        assert len(mirror.requests) == before


def test_each_host_gets_its_own_account(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    import base64
    import json

    image = small_image()
    with MemoryRegistry(account=("ann", "one")) as origin, MemoryRegistry(account=("ben", "two")) as mirror:
        accounts = {origin.address: b"ann:one", mirror.address: b"ben:two"}
        auths = {address: {"auth": base64.b64encode(account).decode()} for address, account in accounts.items()}
        (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
        own = replace(session, environ={**session.environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")})
        push_image(image, Reference.parse(f"{mirror.address}/x:1"), own)
        fresh = mirrored(tmp_path, own, origin.address, mirror.address)
        assert pull_image(Reference.parse(f"{origin.address}/x:1"), fresh).digest == image.digest
        assert not origin.requests
