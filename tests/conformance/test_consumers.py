"""Every form of image is taken by every consumer that can read it, and is the image that was made."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich_images import FORMS

from lightship.layers import Compression
from lightship.oci.archive import write_archive
from lightship.oci.image import Image, ImageIndex, digest_of
from lightship.oci.layout import write_layout
from lightship.oci.name import Reference
from lightship.oci.push import push_image
from lightship.run.docker import DockerEngine
from lightship.run.podman import PodmanEngine
from lightship.session import Session

MakeImage = Callable[[str], Image]
# Debian: golang-github-opencontainers-image-spec-dev
SCHEMAS = Path("/usr/share/gocode/src/github.com/opencontainers/image-spec/schema")
COPY = ("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests")
WITHOUT_ZSTD = tuple(form for form in FORMS if form not in (Compression.ZSTD, "mixed"))


def run(*command: object) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# The schemas of the OCI image specification


@pytest.fixture(scope="session")
def validate() -> Callable[[str, bytes], None]:
    """`validate(schema, document)`: raise where a document breaks a schema of the specification."""
    from jsonschema import Draft4Validator
    from machine import absent
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    if not SCHEMAS.is_dir():
        absent("the schemas of the OCI image specification are not installed")
    schemas: dict[str, Mapping[str, Any]] = {
        path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")
    }

    def retrieve(uri: str) -> Resource[Any]:
        return Resource.from_contents(schemas[uri.rpartition("/")[2]], default_specification=DRAFT4)

    registry: Registry[Any] = Registry(retrieve=retrieve)  # type: ignore[call-arg]

    def check(name: str, document: bytes) -> None:
        Draft4Validator(schemas[f"{name}-schema.json"], registry=registry).validate(json.loads(document))

    return check


@pytest.mark.parametrize("form", FORMS)
def test_every_document_obeys_its_schema(
    session: Session,
    rich_image: MakeImage,
    rich_index: Callable[[str], ImageIndex],
    validate: Callable[[str, bytes], None],
    tmp_path: Path,
    form: str,
) -> None:
    image, index = rich_image(form), rich_index(form)
    validate("image-manifest", image.manifest)
    validate("config", image.config)
    validate("image-index", index.manifest)
    layout = write_layout(index, session.cache, tmp_path / "layout", name="rich:1")
    validate("image-index", (layout / "index.json").read_bytes())
    validate("image-layout", (layout / "oci-layout").read_bytes())


def test_the_schemas_refuse_what_is_wrong(rich_image: MakeImage, validate: Callable[[str, bytes], None]) -> None:
    from jsonschema import ValidationError

    manifest = json.loads(rich_image("zstd").manifest)
    manifest["layers"][0]["digest"] = "no digest"
    with pytest.raises(ValidationError):
        validate("image-manifest", json.dumps(manifest).encode())


# Consumers


@pytest.mark.parametrize("form", FORMS)
def test_docker_loads_the_archive(
    session: Session, rich_image: MakeImage, docker: DockerEngine, tmp_path: Path, form: str
) -> None:
    image, name = rich_image(form), f"lightship-rich-{form}:1"
    write_archive(image, session.cache, tmp_path / "image.tar", name=name, plain=form not in WITHOUT_ZSTD)
    run("docker", "load", "-i", tmp_path / "image.tar")
    try:
        assert run("docker", "image", "inspect", "-f", "{{.Id}}", name).strip() == image.config_digest
    finally:
        run("docker", "image", "rm", "-f", name)


@pytest.mark.parametrize("form", WITHOUT_ZSTD)
def test_docker_pulls_it(
    session: Session, rich_image: MakeImage, docker: DockerEngine, registry: str, form: str
) -> None:
    image, name = rich_image(form), f"{registry}/rich/{form}:1"
    push_image(image, Reference.parse(name), session)
    assert image.digest in run("docker", "pull", name)
    run("docker", "image", "rm", "-f", name)


@pytest.mark.parametrize("form", FORMS)
def test_podman_loads_the_archive(
    session: Session, rich_image: MakeImage, podman: PodmanEngine, tmp_path: Path, form: str
) -> None:
    image, name = rich_image(form), f"localhost/lightship-rich-{form}:1"
    write_archive(image, session.cache, tmp_path / "image.tar", name=name)
    run("podman", "load", "-i", tmp_path / "image.tar")
    try:
        found = run("podman", "image", "inspect", "--format", "{{.Id}}", name).strip()
        assert f"sha256:{found}" == image.config_digest
    finally:
        run("podman", "image", "rm", "-f", name)


@pytest.mark.parametrize("form", FORMS)
def test_containerd_pulls_and_unpacks_it(
    session: Session, rich_image: MakeImage, containerd: Callable[..., str], registry: str, form: str
) -> None:
    image, name = rich_image(form), f"{registry}/rich/{form}:1"
    push_image(image, Reference.parse(name), session)
    containerd("images", "pull", "--plain-http", name)
    try:
        (line,) = [line for line in containerd("images", "ls").splitlines() if line.startswith(name)]
        assert image.digest in line
        (line,) = [line for line in containerd("images", "check").splitlines() if line.startswith(name)]
        assert "complete (5/5)" in line  # config and layers
        assert line.endswith("true")  # unpacked
    finally:
        containerd("images", "rm", "--sync", name)


@pytest.mark.parametrize("form", FORMS)
def test_containerd_imports_the_archive(
    session: Session, rich_image: MakeImage, containerd: Callable[..., str], tmp_path: Path, form: str
) -> None:
    image, name = rich_image(form), f"docker.io/library/rich-{form}:1"
    write_archive(image, session.cache, tmp_path / "image.tar", name=name)
    containerd("images", "import", str(tmp_path / "image.tar"))
    try:
        assert image.digest in containerd("images", "ls")
    finally:
        containerd("images", "rm", "--sync", name)


@pytest.mark.tool("skopeo")
@pytest.mark.parametrize("form", FORMS)
def test_skopeo_copies_it_byte_for_byte(
    session: Session, rich_image: MakeImage, registry: str, tmp_path: Path, form: str
) -> None:
    image = rich_image(form)
    layout = write_layout(image, session.cache, tmp_path / "layout", name="rich:1")
    there, back = f"docker://{registry}/rich:1", f"oci:{tmp_path / 'back'}:1"
    run(*COPY, "--dest-tls-verify=false", f"oci:{layout}:1", there)
    run(*COPY, "--src-tls-verify=false", "--dest-oci-accept-uncompressed-layers", there, back)
    blobs = {path.name: path.read_bytes() for path in (tmp_path / "back" / "blobs" / "sha256").iterdir()}
    assert blobs.keys() == {path.name for path in (layout / "blobs" / "sha256").iterdir()}
    assert all(digest_of(content) == f"sha256:{name}" for name, content in blobs.items())


@pytest.mark.tool("umoci")
@pytest.mark.parametrize("form", WITHOUT_ZSTD)
def test_umoci_unpacks_it(session: Session, rich_image: MakeImage, tmp_path: Path, form: str) -> None:
    layout = write_layout(rich_image(form), session.cache, tmp_path / "layout", name="rich:1")
    bundle = tmp_path / "bundle"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    run("umoci", "unpack", *rootless, "--image", f"{layout}:1", bundle)
    root = bundle / "rootfs"
    assert (root / "bin" / "tool").samefile(root / "bin" / "tool-again")
    assert (root / "bin" / "link").readlink() == Path("tool")
    assert (root / "srv" / "äöü ☃.txt").read_text() == "ä☃"
    assert (root / "app" / "weights.bin").stat().st_size == 200_000
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert sum(1 for _ in (root / "opt").rglob("large.py")) == 1


@pytest.mark.tool("docker-registry")
@pytest.mark.parametrize("form", FORMS)
def test_the_registry_of_distribution_gives_it_back(
    session: Session, rich_index: Callable[[str], ImageIndex], registry: str, tmp_path: Path, form: str
) -> None:
    from lightship.cache import Cache
    from lightship.oci.pull import pull_image

    index = rich_index(form)
    reference = Reference.parse(f"{registry}/rich:1")
    assert push_image(index, reference, session).digest == index.digest
    fresh = Session(Cache(tmp_path / "fresh"), environ=session.environ)
    for image in index.images:
        assert pull_image(reference, fresh, image.platform).digest == image.digest
