"""What `inspect` says of images that were made for it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lightship.contents import Inspection, inspect_image, open_image
from lightship.contents.packages import Owner
from lightship.errors import IntegrityError, ProjectError
from lightship.layers import Compression, Layer
from lightship.oci.archive import write_archive
from lightship.oci.image import Image, Settings
from lightship.oci.layout import write_layout
from lightship.run.docker import DockerEngine
from lightship.session import Session

Files = dict[str, tuple[bytes, int] | str]
SITE = "opt/lightship/lib/python3.11/site-packages"
LIBRARY = b"a shared library" * 10_000
SETTINGS = Settings(entrypoint=("/bin/true",), environment=(("TOKEN", "not to be shown"),), ports=(8080,))

BASE: Files = {
    "etc/motd": (b"welcome", 0o644),
    "lib": "usr/lib",
    "usr/bin/su": (b"program", 0o4755),
    "usr/lib/libz.so.1": (LIBRARY, 0o644),
    "usr/lib/python3.11/os.py": (b"pass", 0o644),
    "usr/lib/python3.11/__pycache__/os.cpython-311.pyc": (b"code", 0o644),
    "var/lib/dpkg/status.d/zlib1g": (b"Package: zlib1g\nVersion: 1:1.2\nDescription: z\n\n", 0o644),
    "var/lib/dpkg/status.d/zlib1g.md5sums": (b"00000000000000000000000000000000  lib/libz.so.1\n", 0o644),
    "var/lib/dpkg/info/stdlib:amd64.list": (b"/.\n/usr/lib/python3.11/os.py\n", 0o644),
    "var/lib/dpkg/status": (b"Package: stdlib\nStatus: installed\nVersion: 3.11-1\n", 0o644),
}
WHEEL: Files = {
    f"{SITE}/nice_package/__init__.py": (b"", 0o644),
    f"{SITE}/nice_package/__pycache__/__init__.cpython-311.pyc": (b"bytecode", 0o644),
    f"{SITE}/nice_package/libz.so.1": (LIBRARY, 0o644),
    f"{SITE}/Nice_Package-1.0.dist-info/RECORD": (
        b"nice_package/__init__.py,,\n"
        b'"nice_package/libz.so.1",,\n../../../bin/nice,,\nNice_Package-1.0.dist-info/RECORD,,\n',
        0o644,
    ),
    "opt/lightship/bin/nice": (b"#!/opt/lightship/bin/python\n", 0o755),
}
TOP: Files = {
    "etc/motd": (b"goodbye!", 0o666),
    "usr/bin/.wh.su": (b"", 0o644),
    "app/serve.py": (b"app = None", 0o644),
}


@pytest.fixture
def three_layers(make_layer: Callable[..., Layer]) -> Callable[..., Image]:
    def make(compression: Compression = Compression.ZSTD) -> Image:
        return Image(tuple(make_layer(files, compression) for files in (BASE, WHEEL, TOP)), SETTINGS)

    return make


def inspected(name: object, session: Session) -> Inspection:
    return inspect_image(open_image(str(name), session))


def owners(found: Inspection) -> dict[str, Owner]:
    return {file.path: file.owner for file in found.files}


@pytest.mark.parametrize("compression", list(Compression))
def test_each_file_is_counted_to_who_brought_it(
    session: Session, three_layers: Callable[..., Image], tmp_path: Path, compression: Compression
) -> None:
    write_layout(three_layers(compression), session.cache, tmp_path / "layout", name="three")
    brought = owners(inspected(f"oci:{tmp_path / 'layout'}", session))
    assert brought["usr/lib/libz.so.1"] == Owner("debian", "zlib1g", "1:1.2")
    assert brought["usr/lib/python3.11/os.py"] == Owner("debian", "stdlib", "3.11-1")
    assert brought["usr/lib/python3.11/__pycache__/os.cpython-311.pyc"] == Owner("debian", "stdlib", "3.11-1")
    nice = {path for path, owner in brought.items() if owner == Owner("python", "nice-package", "1.0")}
    assert nice == set(WHEEL)
    assert brought["app/serve.py"].kind == "app"


def test_hidden_and_repeated_bytes_are_wasted(
    session: Session, three_layers: Callable[..., Image], tmp_path: Path
) -> None:
    write_layout(three_layers(), session.cache, session.cache.image_path("three:latest"), name="three")
    waste = inspected("three", session).waste
    assert {(each.path, each.size, each.layer, each.by_layer, each.why) for each in waste.buried} == {
        ("etc/motd", 7, 0, 2, "overwritten"),
        ("usr/bin/su", 7, 0, 2, "removed"),
    }
    assert [(each.size, set(each.paths)) for each in waste.duplicates] == [
        (len(LIBRARY), {"usr/lib/libz.so.1", f"{SITE}/nice_package/libz.so.1"})
    ]
    assert waste.efficiency == pytest.approx(1 - (14 + len(LIBRARY)) / waste.total)


def test_suspect_files_are_those_that_a_container_sees(
    session: Session, three_layers: Callable[..., Image], tmp_path: Path, make_layer: Callable[..., Layer]
) -> None:
    write_layout(three_layers(), session.cache, tmp_path / "three", name="three")
    found = inspected(tmp_path / "three", session)
    assert found.set_id == ()
    assert [file.path for file in found.world_writable] == ["etc/motd"]
    base = Image((make_layer(BASE),), SETTINGS)
    write_layout(base, session.cache, tmp_path / "base", name="base")
    assert [file.path for file in inspected(tmp_path / "base", session).set_id] == ["usr/bin/su"]


def test_values_of_variables_are_not_shown(
    session: Session, three_layers: Callable[..., Image], tmp_path: Path
) -> None:
    write_layout(three_layers(), session.cache, tmp_path / "three", name="three")
    document = inspected(tmp_path / "three", session).to_dict(files=True)
    assert document["settings"]["environment"] == ["TOKEN"]
    assert "not to be shown" not in json.dumps(document)


@pytest.mark.parametrize("plain", [False, True])
def test_an_archive_says_the_same_as_its_layout(
    session: Session, three_layers: Callable[..., Image], tmp_path: Path, plain: bool
) -> None:
    image = three_layers()
    write_layout(image, session.cache, tmp_path / "three", name="three")
    write_archive(image, session.cache, tmp_path / "three.tar", name="three", plain=plain)
    layout, archive = inspected(tmp_path / "three", session), inspected(tmp_path / "three.tar", session)
    assert (archive.files, archive.packages, archive.waste) == (layout.files, layout.packages, layout.waste)
    assert archive.config_digest == layout.config_digest


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
@pytest.mark.tool("skopeo")
def test_archives_of_skopeo(session: Session, three_layers: Callable[..., Image], tmp_path: Path, form: str) -> None:
    write_layout(three_layers(Compression.GZIP), session.cache, tmp_path / "three", name="three")
    target = f"{form}:{tmp_path / 'copy.tar'}" + (":three:latest" if form == "docker-archive" else "")
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", f"oci:{tmp_path / 'three'}:latest", target],
        check=True,
        capture_output=True,
    )
    copy = inspected(tmp_path / "copy.tar", session)
    assert copy.files == inspected(tmp_path / "three", session).files


@pytest.mark.tool("umoci")
def test_a_layout_of_umoci(session: Session, tmp_path: Path) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"

    def umoci(*arguments: str) -> None:
        subprocess.run(["umoci", *arguments], check=True, capture_output=True)

    umoci("init", "--layout", str(layout))
    umoci("new", "--image", f"{layout}:one")
    umoci("unpack", "--rootless", "--image", f"{layout}:one", str(bundle))
    (bundle / "rootfs" / "text").write_text("hello")
    umoci("repack", "--image", f"{layout}:one", str(bundle))
    found = inspected(f"oci:{layout}:one", session)
    assert "text" in owners(found)
    assert found.settings.user == ""


def test_docker_saves_what_was_loaded(
    session: Session, busybox_image: Callable[..., Image], docker: DockerEngine, tmp_path: Path
) -> None:
    image = busybox_image()
    name = f"lightship-inspect-test:{os.getpid()}"
    docker.load(image, session, name=name)
    try:
        found = inspected(f"docker:{name}", session)
    finally:
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=True)
    write_layout(image, session.cache, tmp_path / "layout", name="busybox")
    assert found.files == inspected(tmp_path / "layout", session).files
    assert found.config_digest == image.config_digest


def test_the_old_form_of_docker_save(session: Session, tmp_path: Path) -> None:
    layer = tar_of({"etc/motd": b"hello"})
    config = {
        "architecture": "arm64",
        "os": "linux",
        "config": {"User": "1000", "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()] * 2},
        "history": [{"created_by": "/bin/sh -c #(nop) COPY motd"}, {"empty_layer": True}, {"created_by": "again"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar"]}]
    content = tar_of(
        {
            "1/VERSION": b"1.0",
            "1/layer.tar": layer,
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        },
        links={"2/layer.tar": "../1/layer.tar"},
    )
    (tmp_path / "old.tar").write_bytes(content)
    found = inspected(tmp_path / "old.tar", session)
    assert [layer.title for layer in found.layers] == ["COPY motd", "again"]
    assert (found.platform, found.settings.user, found.digest) == ("linux/arm64", "1000", "")
    assert found.waste.buried_size == 5


def test_an_image_in_a_registry(
    session: Session, three_layers: Callable[..., Image], registry: str, tmp_path: Path
) -> None:
    write_layout(three_layers(), session.cache, tmp_path / "three", name="three")
    subprocess.run(
        [
            *("skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false"),
            f"oci:{tmp_path / 'three'}:latest",
            f"docker://{registry}/team/three:1",
        ],
        check=True,
        capture_output=True,
    )
    found = inspected(f"{registry}/team/three:1", session)
    assert found.digest == inspected(tmp_path / "three", session).digest


def test_bytes_that_do_not_hash_to_their_name_are_refused(
    session: Session, three_layers: Callable[..., Image], tmp_path: Path
) -> None:
    image = three_layers(Compression.NONE)
    write_layout(image, session.cache, tmp_path / "three", name="three")
    blob = tmp_path / "three" / "blobs" / "sha256" / image.layers[2].digest.removeprefix("sha256:")
    content = blob.read_bytes().replace(b"goodbye!", b"good bye")
    blob.unlink()
    blob.write_bytes(content)
    with pytest.raises(IntegrityError, match="do not hash"):
        inspected(tmp_path / "three", session)


def test_a_name_that_is_nowhere_asks_no_registry(session: Session) -> None:
    with pytest.raises(ProjectError, match="no image nosuch"):
        inspected("nosuch", session)


def test_a_file_that_is_no_archive(session: Session, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(tar_of({"a": b"b"}))
    with pytest.raises(IntegrityError, match="not an archive of an image"):
        inspected(tmp_path / "text", session)


def tar_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for path, target in (links or {}).items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return stream.getvalue()
