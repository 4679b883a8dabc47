"""Bases that others published: what is found in them, what is pinned, and when their layers are fetched."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightship.bases.image import ImageLock, build_image_base, lock_image
from lightship.bases.image.contents import pretty_name, read_contents
from lightship.errors import LockError, ProjectError
from lightship.layers import Compression, Layer
from lightship.oci.image import Image, Platform, Settings
from lightship.oci.layout import write_layout
from lightship.oci.published import DOCKER_MANIFEST_TYPE
from lightship.session import Session

MakeLayer = Callable[..., Layer]
Files = dict[str, tuple[bytes, int] | str]

PYTHON = (b"\x7fELF" + b"\0padding" * 1000 + b"/build/Python-3.11.9\0 3.2.0\0 9.3.11.8\0", 0o755)
DEBIAN: Files = {
    "etc/os-release": "../usr/lib/os-release",
    "usr/lib/os-release": (b'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', 0o644),
    "usr/bin/python3": "python3.11",
    "usr/bin/python3.11": PYTHON,
}


@pytest.fixture
def publish(session: Session, make_layer: MakeLayer, tmp_path: Path) -> Callable[..., Image]:
    """`publish(files, files, environment=...)`: a base in the layout `base`, no longer in the cache."""

    def make(*layers: Files, environment: tuple[tuple[str, str], ...] = (), gone: bool = True) -> Image:
        made = tuple(make_layer(files, Compression.GZIP) for files in layers)
        image = Image(made, Settings(entrypoint=("/bin/sh",), environment=environment))
        write_layout(image, session.cache, tmp_path / "base", name="base:1")
        for layer in made if gone else ():
            session.cache.blob_path(layer.digest).unlink()
        return image

    return make


def lock_of(session: Session, tmp_path: Path, reference: str = "oci:base") -> ImageLock:
    return lock_image(reference, Platform(), session, tmp_path)


def test_the_python_of_the_configuration_is_believed_without_fetching(
    session: Session, publish: Callable[..., Image], tmp_path: Path
) -> None:
    image = publish(DEBIAN, environment=(("PATH", "/usr/local/bin:/bin"), ("PYTHON_VERSION", "3.12.7"), ("X", "a=b")))
    lock = lock_of(session, tmp_path)
    assert (lock.python_path, lock.python_version) == ("/usr/local/bin/python3.12", "3.12.7")
    base = build_image_base(lock, session, tmp_path)
    assert base.digest == image.digest
    assert base.environment[-1] == ("X", "a=b")
    assert [(layer.digest, layer.diff_id, layer.size, layer.media_type) for layer in base.layers] == [
        (layer.digest, layer.diff_id, layer.size, layer.media_type) for layer in image.layers
    ]
    assert not session.cache.has_blob(image.layers[0].digest)
    base.fetch()
    assert session.cache.has_blob(image.layers[0].digest, image.layers[0].size)


@pytest.mark.parametrize("reference", ["oci:base", "oci:base:1", "oci:{directory}/base", "oci:{directory}/base:1"])
def test_the_layers_are_looked_into_where_the_configuration_is_silent(
    session: Session, publish: Callable[..., Image], tmp_path: Path, reference: str
) -> None:
    publish(DEBIAN, {"app/x": (b"", 0o644)})
    lock = lock_of(session, tmp_path, reference.format(directory=tmp_path))
    assert (lock.python_path, lock.python_version) == ("/usr/bin/python3.11", "3.11.9")
    assert lock.os_release == "Debian GNU/Linux 12 (bookworm)"


def test_a_lock_survives_being_written_and_needs_no_source(
    session: Session, publish: Callable[..., Image], tmp_path: Path
) -> None:
    publish(DEBIAN)
    lock = lock_of(session, tmp_path)
    assert ImageLock.from_dict(json.loads(json.dumps(lock.to_dict()))) == lock
    subprocess.run(["rm", "-r", tmp_path / "base"], check=True)
    assert build_image_base(lock, session, tmp_path).interpreter.minor == "3.11"


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": "sha256:../x"},
        {"layers": [{"digest": "sha256:1"}]},
        {"layers": None},
        {"python-version": 3.11},
        {"python-path": "/usr/bin/python3 -c evil"},
        {"environment": "A=b"},
    ],
)
def test_a_lock_that_was_tampered_with_is_refused(
    session: Session, publish: Callable[..., Image], tmp_path: Path, change: dict[str, Any]
) -> None:
    publish(DEBIAN)
    with pytest.raises(LockError, match="not readable"):
        ImageLock.from_dict(lock_of(session, tmp_path).to_dict() | change)


def test_dockers_media_types_become_those_of_oci(
    session: Session, publish: Callable[..., Image], tmp_path: Path
) -> None:
    publish(DEBIAN, environment=(("PYTHON_VERSION", "3.11.9"),))
    rewrite_manifest(tmp_path / "base")
    lock = lock_of(session, tmp_path)
    assert {layer.media_type for layer in lock.layers} == {Compression.GZIP.media_type}


def rewrite_manifest(layout: Path) -> None:
    """Make a layout's image one of Docker's."""
    from lightship.oci.image import canonical_json, descriptor

    index = json.loads((layout / "index.json").read_bytes())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"].removeprefix("sha256:")).read_bytes())
    manifest["mediaType"] = DOCKER_MANIFEST_TYPE
    manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    for layer in manifest["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    content = canonical_json(manifest)
    entry = descriptor(DOCKER_MANIFEST_TYPE, content)
    (blobs / entry["digest"].removeprefix("sha256:")).write_bytes(content)
    (layout / "index.json").write_bytes(canonical_json(index | {"manifests": [entry]}))


@pytest.mark.parametrize(
    ("layers", "environment", "found"),
    [
        ([{"usr/bin/python3.11": PYTHON}], {}, "/usr/bin/python3.11"),
        ([{"usr/bin/python3.9": (b"3.9.1\0", 0o755), "usr/bin/python3.11": PYTHON}], {}, "/usr/bin/python3.11"),
        (
            [
                {
                    "usr/bin/python3.9": (b"3.9.1\0", 0o755),
                    "usr/bin/python3.11": PYTHON,
                    "usr/bin/python3": "python3.9",
                }
            ],
            {},
            "/usr/bin/python3.9",
        ),
        ([DEBIAN, {"opt/x/bin/python3.11": PYTHON}], {"PATH": "/opt/x/bin:/usr/bin"}, "/opt/x/bin/python3.11"),
        ([DEBIAN, {"opt/v/bin/python3.11": "/usr/bin/python3.11"}], {"PATH": "/opt/v/bin"}, "/opt/v/bin/python3.11"),
        (
            [{"usr/bin/python3.11": (b"tiny", 0o755), "usr/lib/libpython3.11.so.1.0": PYTHON}],
            {},
            "/usr/bin/python3.11",
        ),
        ([{"a b/python3.11": PYTHON}], {"PATH": "/a b"}, None),
        ([DEBIAN, {"usr/bin/.wh.python3.11": (b"", 0o644)}], {}, None),
        ([DEBIAN, {"usr/.wh.bin": (b"", 0o644)}], {}, None),
        ([DEBIAN, {"usr/bin/.wh..wh..opq": (b"", 0o644)}], {}, None),
        ([{"usr/bin/.wh..wh..opq": (b"", 0o644), **DEBIAN}], {}, "/usr/bin/python3.11"),
        ([{"usr/bin/python3": "python3.11", "usr/bin/python3.11": "python3"}], {}, None),
        ([{"usr/bin/python3.11": "../../../../etc/passwd"}], {}, None),
        ([{"usr/bin/python3.11": (b"no version", 0o755)}], {}, None),
        ([{"usr/bin/python2.7": (b"2.7.18\0", 0o755)}], {}, None),
        ([{"usr/bin/python3.11/x": (b"", 0o644)}], {}, None),
    ],
)
def test_the_python_that_a_shell_would_start(
    session: Session, make_layer: MakeLayer, layers: list[Files], environment: dict[str, str], found: str | None
) -> None:
    contents = read_contents([make_layer(files) for files in layers], session.cache)
    python = contents.find_python(environment.get("PATH", "/usr/local/bin:/usr/bin:/bin"))
    assert (python[0] if python else None) == found


def test_a_real_interpreter_and_c_library_tell_their_versions(session: Session, make_layer: MakeLayer) -> None:
    name = "python" + sysconfig.get_python_version()
    files: Files = {f"usr/bin/{name}": (Path(sys.executable).resolve().read_bytes(), 0o755)}
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        library = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
        files[f"usr/lib/{library.name}"] = (library.read_bytes(), 0o644)
    maps = Path("/proc/self/maps").read_text()
    (libc,) = {line.split()[-1] for line in maps.splitlines() if line.endswith("/libc.so.6")}
    files["lib/x86_64-linux-gnu/libc.so.6"] = (Path(libc).read_bytes(), 0o755)
    contents = read_contents([make_layer(files)], session.cache)
    assert contents.glibc_version() == platform.libc_ver()[1]
    assert contents.find_python("/usr/bin") == (f"/usr/bin/{name}", platform.python_version())


def test_a_base_without_python_is_refused(session: Session, publish: Callable[..., Image], tmp_path: Path) -> None:
    publish({"bin/sh": (b"", 0o755)})
    with pytest.raises(ProjectError, match="has no Python 3"):
        lock_of(session, tmp_path)


def test_a_base_on_musl_is_refused(session: Session, publish: Callable[..., Image], tmp_path: Path) -> None:
    publish(DEBIAN, {"lib/ld-musl-x86_64.so.1": (b"", 0o755)})
    with pytest.raises(ProjectError, match="musl") as caught:
        lock_of(session, tmp_path)
    assert "glibc" in str(caught.value.hint)


def test_the_root_is_the_unpacked_image(session: Session, publish: Callable[..., Image], tmp_path: Path) -> None:
    publish(DEBIAN, {"app/x": (b"content", 0o644)})
    root = build_image_base(lock_of(session, tmp_path), session, tmp_path).interpreter.root()
    assert (root / "app" / "x").read_text() == "content"
    assert (root / "usr/bin/python3").readlink() == Path("python3.11")


def test_a_misleading_configuration_is_found_out_before_anything_is_run(
    session: Session, publish: Callable[..., Image], tmp_path: Path
) -> None:
    publish(DEBIAN, environment=(("PYTHON_VERSION", "3.12.1"),))
    base = build_image_base(lock_of(session, tmp_path), session, tmp_path)
    with pytest.raises(ProjectError, match=r"there is no /usr/local/bin/python3\.12"):
        base.interpreter.root()


@pytest.mark.tool("skopeo")
def test_a_base_from_a_registry(
    session: Session, registry: str, publish: Callable[..., Image], tmp_path: Path
) -> None:
    image = publish(DEBIAN)
    reference = f"{registry}/team/python:3.11"
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"oci:{tmp_path / 'base'}:1", f"docker://{reference}"], check=True, capture_output=True)
    lock = lock_of(session, tmp_path, reference)
    assert lock.manifest == image.digest
    assert lock.python_version == "3.11.9"
    for layer in image.layers:
        session.cache.blob_path(layer.digest).unlink()
    base = build_image_base(lock, session)
    base.fetch()
    assert session.cache.has_blob(image.layers[0].digest)
    base.fetch()
    build_image_base(lock, replace(session, offline=True)).fetch()


def test_names_of_systems_are_fit_to_be_printed() -> None:
    assert pretty_name("PRETTY_NAME=Debian\n") == "Debian"
    assert pretty_name('PRETTY_NAME="a\x1b[31mred"') == "a[31mred"
    assert pretty_name("NAME=x") == ""
