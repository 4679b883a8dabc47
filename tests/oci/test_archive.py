"""One tar that is an OCI layout and a `docker load` archive at once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightship.errors import IntegrityError
from lightship.layers import Compression, Layer
from lightship.oci.archive import without_zstd, write_archive
from lightship.oci.image import Image, Platform
from lightship.oci.layout import open_layout
from lightship.oci.published import read_image
from lightship.session import Session

MakeImage = Callable[..., Image]


def archive(image: Image, session: Session, name: str = "iris:1", **options: Any) -> bytes:
    stream = io.BytesIO()
    write_archive(image, session.cache, stream, name=name, **options)
    return stream.getvalue()


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]


@pytest.mark.parametrize("plain", [False, True])
def test_documents_come_first_and_every_blob_is_what_its_name_says(
    session: Session, small_image: MakeImage, plain: bool
) -> None:
    found = members(archive(small_image(), session, plain=plain))
    names = list(found)
    assert names[:3] == ["manifest.json", "index.json", "oci-layout"]
    assert len(names) == 3 + 2 + 2
    for name in names[3:]:
        assert name == f"blobs/sha256/{hashlib.sha256(found[name]).hexdigest()}"
    (entry,) = json.loads(found["manifest.json"])
    assert entry["RepoTags"] == ["docker.io/library/iris:1"]
    assert {entry["Config"], *entry["Layers"]} <= set(names)


def test_the_same_image_gives_the_same_bytes(session: Session, small_image: MakeImage) -> None:
    assert archive(small_image(), session) == archive(small_image(), session)


def test_it_is_a_layout_too(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    write_archive(image, session.cache, tmp_path / "image.tar", name="iris:1")
    with tarfile.open(tmp_path / "image.tar") as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    assert read_image(open_layout(tmp_path / "layout", "1"), Platform()).digest == image.digest


def test_plain_keeps_the_image_id_and_gzip_layers(
    session: Session, small_image: MakeImage, make_layer: Callable[..., Layer]
) -> None:
    image = small_image()
    image = replace(image, layers=(*image.layers, make_layer({"x": (b"y", 0o644)}, Compression.GZIP)))
    plain = without_zstd(image, session.cache)
    assert plain.config_digest == image.config_digest
    assert [layer.compression for layer in plain.layers] == [Compression.NONE, Compression.NONE, Compression.GZIP]
    assert [layer.digest for layer in plain.layers[:2]] == [layer.diff_id for layer in image.layers[:2]]


def test_a_layer_of_unknown_unpacked_size_is_measured(session: Session, small_image: MakeImage) -> None:
    image = small_image()
    unmeasured = replace(image, layers=tuple(replace(layer, unpacked_size=0) for layer in image.layers))
    assert archive(unmeasured, session, plain=True) == archive(image, session, plain=True)


def test_a_layer_that_stands_twice_is_written_once(session: Session, small_image: MakeImage) -> None:
    image = small_image()
    twice = replace(image, layers=(*image.layers, image.layers[0]))
    found = members(archive(twice, session))
    assert len(json.loads(found["manifest.json"])[0]["Layers"]) == 3
    assert len(found) == 3 + 2 + 2


def test_a_damaged_layer_is_not_passed_on(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image, other = small_image("one"), small_image("two")
    wrong = other.layers[1]
    mixed = replace(image, layers=(image.layers[0], replace(wrong, diff_id=image.layers[1].diff_id)))
    with pytest.raises(IntegrityError, match="diff ID"):
        archive(mixed, session, plain=True)
    target = tmp_path / "image.tar"
    target.write_bytes(b"the last good one")
    session.cache.blob_path(image.layers[1].digest).unlink()
    with pytest.raises(IntegrityError, match="not in the cache"):
        write_archive(image, session.cache, target, name="iris")
    assert target.read_bytes() == b"the last good one"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["image.tar"]


def test_an_archive_obeys_the_umask(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_archive(small_image(), session.cache, tmp_path / "image.tar", name="iris")
    finally:
        os.umask(before)
    assert (tmp_path / "image.tar").stat().st_mode & 0o777 == 0o600


@pytest.mark.tool("skopeo")
@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
@pytest.mark.parametrize("compression", list(Compression))
def test_skopeo_reads_both_sides(
    session: Session, small_image: MakeImage, tmp_path: Path, transport: str, compression: Compression
) -> None:
    image = small_image(compression=compression)
    write_archive(image, session.cache, tmp_path / "image.tar", name="iris:1")
    name = f"{transport}:{tmp_path / 'image.tar'}"
    shown = subprocess.run(["skopeo", "inspect", "--config", "--raw", name], check=True, capture_output=True)
    assert "sha256:" + hashlib.sha256(shown.stdout).hexdigest() == image.config_digest
    if transport == "oci-archive":
        shown = subprocess.run(["skopeo", "inspect", "--raw", name], check=True, capture_output=True)
        assert shown.stdout == image.manifest
