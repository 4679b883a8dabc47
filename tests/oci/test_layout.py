"""OCI layouts: written from the cache, read back by us and by the tools that others use."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lightship.errors import IntegrityError, NetworkError, ProjectError, StorageError
from lightship.layers import Compression
from lightship.oci.image import Image, Platform
from lightship.oci.layout import open_layout, write_layout
from lightship.oci.published import read_image
from lightship.session import Session

MakeImage = Callable[..., Image]


def names(directory: Path) -> set[str]:
    return {path.name for path in (directory / "blobs" / "sha256").iterdir()}


def state(directory: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.rglob("*")}


def test_a_layout_is_read_back_as_it_was_written(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    directory = write_layout(image, session.cache, tmp_path / "layout", name="team/iris:1.2")
    read = read_image(open_layout(directory), Platform())
    assert read.digest == image.digest
    assert [(d.digest, d.size, d.media_type) for d, _ in read.layers] == [
        (layer.digest, layer.size, layer.media_type) for layer in image.layers
    ]
    assert [diff_id for _, diff_id in read.layers] == [layer.diff_id for layer in image.layers]
    assert open_layout(directory, "1.2").chosen.digest == image.digest


def test_blobs_are_links_to_the_cache(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    directory = write_layout(image, session.cache, tmp_path / "layout", name="iris")
    for layer in image.layers:
        blob = directory / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")
        assert blob.samefile(session.cache.blob_path(layer.digest))


def test_writing_the_same_again_touches_nothing(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    directory = write_layout(small_image(), session.cache, tmp_path / "layout", name="iris")
    before = state(directory)
    write_layout(small_image(), session.cache, directory, name="iris")
    assert state(directory) == before


def test_the_next_image_replaces_the_last_and_its_blobs(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    directory = write_layout(small_image("one"), session.cache, tmp_path / "layout", name="iris")
    old = names(directory)
    image = small_image("two")
    write_layout(image, session.cache, directory, name="iris")
    assert names(directory) == {
        digest.removeprefix("sha256:")
        for digest in (image.digest, image.config_digest, *(layer.digest for layer in image.layers))
    }
    assert names(directory) != old


def test_a_layout_whose_blob_was_cut_short_is_mended(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    image = small_image()
    directory = write_layout(image, session.cache, tmp_path / "layout", name="iris")
    blob = directory / "blobs" / "sha256" / image.layers[0].digest.removeprefix("sha256:")
    blob.unlink()
    blob.write_bytes(b"short")
    write_layout(image, session.cache, directory, name="iris")
    assert blob.stat().st_size == image.layers[0].size


def test_files_of_others_are_not_written_among(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("four years of work")
    with pytest.raises(StorageError, match="holds other files"):
        write_layout(small_image(), session.cache, tmp_path, name="iris")
    file = tmp_path / "thesis.txt"
    with pytest.raises(StorageError, match="is a file"):
        write_layout(small_image(), session.cache, file, name="iris")


def test_a_layout_with_several_images_is_not_overwritten(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    directory = write_layout(small_image(), session.cache, tmp_path / "layout", name="iris")
    index = json.loads((directory / "index.json").read_bytes())
    index["manifests"] *= 2
    (directory / "index.json").write_text(json.dumps(index))
    with pytest.raises(StorageError, match="holds 2 images"):
        write_layout(small_image("other"), session.cache, directory, name="iris")


def test_a_layer_that_has_left_the_cache_is_named(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    session.cache.blob_path(image.layers[0].digest).unlink()
    with pytest.raises(IntegrityError, match=image.layers[0].digest):
        write_layout(image, session.cache, tmp_path / "layout", name="iris")
    assert not (tmp_path / "layout" / "index.json").exists()


def test_a_layout_is_copied_where_links_are_impossible(
    session: Session, small_image: MakeImage, tmp_path: Path
) -> None:
    elsewhere = Path("/dev/shm")
    if not os.access(elsewhere, os.W_OK) or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to write to")
    image = small_image()
    directory = elsewhere / f"lightship-test-{os.getpid()}"
    try:
        write_layout(image, session.cache, directory, name="iris")
        assert read_image(open_layout(directory), Platform()).digest == image.digest
    finally:
        subprocess.run(["rm", "-rf", directory], check=True)


def test_a_changed_blob_is_refused(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    directory = write_layout(image, session.cache, tmp_path / "layout", name="iris")
    session.cache.blob_path(image.layers[0].digest).unlink()
    blob = directory / "blobs" / "sha256" / image.layers[0].digest.removeprefix("sha256:")
    blob.write_bytes(bytes(len(blob.read_bytes())))
    source = open_layout(directory)
    descriptor = read_image(source, Platform()).manifest.layers[0]
    with pytest.raises(IntegrityError, match="sha256 is"):
        source.pull([descriptor], session)
    blob.write_bytes(b"short")
    with pytest.raises(IntegrityError, match="5 bytes instead of"):
        source.pull([descriptor], session)
    blob.write_bytes(bytes(descriptor.size + 1))
    with pytest.raises(IntegrityError, match="more than"):
        source.pull([descriptor], session)
    blob.unlink()
    with pytest.raises(NetworkError, match="there is no such file"):
        source.pull([descriptor], session)
    assert not session.cache.has_blob(descriptor.digest)
    assert not list((session.cache.root / "tmp").iterdir())


def test_a_changed_manifest_or_config_is_refused(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    directory = write_layout(image, session.cache, tmp_path / "layout", name="iris")
    for digest in (image.config_digest, image.digest):
        blob = directory / "blobs" / "sha256" / digest.removeprefix("sha256:")
        blob.write_bytes(blob.read_bytes().replace(b"linux", b"minix").replace(b"sha256:", b"sha257:"))
        with pytest.raises(IntegrityError, match=f"wrong bytes for {digest}"):
            read_image(open_layout(directory), Platform())


def test_what_is_no_layout_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="is not an OCI layout"):
        open_layout(tmp_path)
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    with pytest.raises(ProjectError, match="is empty"):
        open_layout(tmp_path)
    with pytest.raises(ProjectError, match="no image with the tag 'v1'"):
        open_layout(tmp_path, "v1")


@pytest.mark.tool("skopeo")
@pytest.mark.parametrize("compression", list(Compression))
def test_skopeo_reads_and_copies_every_compression(
    session: Session, small_image: MakeImage, tmp_path: Path, compression: Compression
) -> None:
    image = small_image(compression=compression)
    directory = write_layout(image, session.cache, tmp_path / "layout", name="iris:1")
    shown = subprocess.run(["skopeo", "inspect", f"oci:{directory}:1"], check=True, capture_output=True)
    inspected = json.loads(shown.stdout)
    assert inspected["Digest"] == image.digest
    assert inspected["Layers"] == [layer.digest for layer in image.layers]
    copy = tmp_path / "copy"
    policy = ["--insecure-policy"]
    subprocess.run(
        ["skopeo", *policy, "copy", "--quiet", "--preserve-digests", f"oci:{directory}:1", f"oci:{copy}:1"],
        check=True,
    )
    assert read_image(open_layout(copy, "1"), Platform()).digest == image.digest


@pytest.mark.tool("umoci")
@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])  # umoci 0.4 has no zstd
def test_umoci_unpacks_a_layout(
    session: Session, small_image: MakeImage, tmp_path: Path, compression: Compression
) -> None:
    image = small_image("unpacked", compression=compression)
    directory = write_layout(image, session.cache, tmp_path / "layout", name="iris:1")
    bundle = tmp_path / "bundle"
    rootless = ["--rootless"] if os.getuid() else []
    subprocess.run(
        ["umoci", "unpack", *rootless, "--image", f"{directory}:1", bundle], check=True, capture_output=True
    )
    assert (bundle / "rootfs" / "app" / "text").read_text() == "unpacked"


@pytest.mark.tool("umoci")
def test_a_layout_that_umoci_made_is_read(session: Session, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "text").write_text("content")
    for arguments in (
        ["init", "--layout", tmp_path / "made"],
        ["new", "--image", f"{tmp_path / 'made'}:v1"],
        ["config", "--image", f"{tmp_path / 'made'}:v1", "--architecture", "amd64", "--os", "linux"],
        ["insert", "--rootless", "--image", f"{tmp_path / 'made'}:v1", tmp_path / "files", "/files"],
    ):
        subprocess.run(["umoci", *arguments], check=True, capture_output=True)
    source = open_layout(tmp_path / "made", "v1")
    image = read_image(source, Platform())
    source.pull(image.manifest.layers, session)
    ((layer, diff_id),) = image.layers
    pulled = gzip.decompress(session.cache.blob_path(layer.digest).read_bytes())
    assert "sha256:" + hashlib.sha256(pulled).hexdigest() == diff_id
