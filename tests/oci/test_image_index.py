"""Images of several platforms under one digest: written, read back, pushed, and chosen from."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightship.errors import ProjectError
from lightship.oci.archive import write_archive
from lightship.oci.image import INDEX_TYPE, Image, ImageIndex, Platform, image_for
from lightship.oci.layout import write_layout
from lightship.oci.name import Reference
from lightship.oci.push import push_image
from lightship.oci.stored import read_layout
from lightship.session import Session
from lightship.testing import MemoryRegistry

ARM = Platform("arm64")


@pytest.fixture
def index(small_image: Callable[..., Image]) -> ImageIndex:
    """Two platforms that share the first layer."""
    return ImageIndex((small_image("amd64"), replace(small_image("arm64"), platform=ARM)))


def test_a_layout_holds_the_index_and_reads_back_as_it_was(
    session: Session, index: ImageIndex, tmp_path: Path
) -> None:
    layout = write_layout(index, session.cache, tmp_path / "layout", name="x:1")
    assert read_layout(layout, session) == replace_cached(index)
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert (entry["mediaType"], entry["digest"]) == (INDEX_TYPE, index.digest)
    blobs = {path.name for path in (layout / "blobs" / "sha256").iterdir()}
    assert len(blobs) == 1 + 2 + 2 + 3  # index, manifests, configs, layers
    assert write_layout(index, session.cache, layout, name="x:1") == layout


def replace_cached(index: ImageIndex) -> ImageIndex:
    images = (
        replace(image, layers=tuple(replace(layer, from_cache=True) for layer in image.layers))
        for image in index.images
    )
    return ImageIndex(tuple(images))


@pytest.mark.tool("skopeo")
def test_skopeo_finds_each_platform(session: Session, index: ImageIndex, tmp_path: Path) -> None:
    layout = write_layout(index, session.cache, tmp_path / "layout", name="x:1")
    for image in index.images:
        architecture = image.platform.architecture
        command = ["skopeo", "--override-arch", architecture, "inspect", "--raw", "--config", f"oci:{layout}:1"]
        done = subprocess.run(command, capture_output=True, check=True)
        assert json.loads(done.stdout)["architecture"] == architecture


def test_children_are_pushed_before_the_index(session: Session, index: ImageIndex) -> None:
    with MemoryRegistry() as registry:
        pushed = push_image(index, Reference.parse(f"{registry.address}/x:1"), session)
        held = registry.repositories["x"]
        assert held.tags == {"1": index.digest}
        assert {image.digest for image in index.images} < set(held.manifests)
        puts = [path.rpartition("/")[2] for path in registry.asked("PUT") if "/manifests/" in path]
    assert puts == [*(image.digest for image in index.images), "1"]
    assert pushed.digest == index.digest
    assert len(pushed.blobs) == 3 + 2  # a shared layer travels once


def test_the_registry_of_distribution_takes_it(session: Session, index: ImageIndex, registry: str) -> None:
    assert push_image(index, Reference.parse(f"{registry}/x:1"), session).digest == index.digest


def test_an_archive_holds_shared_layers_once(session: Session, index: ImageIndex, tmp_path: Path) -> None:
    write_archive(index, session.cache, tmp_path / "image.tar", name="x:1")
    with tarfile.open(tmp_path / "image.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 3 + 2 + 1 + 2 + 2 + 3  # documents, directories, index, ...


def test_the_image_of_a_platform_is_found_and_others_are_named(index: ImageIndex) -> None:
    assert image_for(index, ARM) is index.images[1]
    with pytest.raises(
        ProjectError, match=r"no image for linux/s390x; there are images for linux/amd64, linux/arm64"
    ):
        image_for(index, Platform("s390x"))
    assert image_for(index.images[0], ARM) is index.images[0]  # the only one
