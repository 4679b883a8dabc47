"""A base in a registry stays there: a push takes of its bytes only what the destination lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lightship.bases.base import Base
from lightship.bases.image import build_image_base, lock_image
from lightship.layers import Layer
from lightship.oci import Reference
from lightship.oci.image import BASE_DIGEST, BASE_NAME, Image, Platform, Settings
from lightship.oci.layout import write_layout
from lightship.oci.push import push_image
from lightship.oci.stored import known_unpacked_size, read_layout
from lightship.oci.upload import Outcome
from lightship.session import Session
from lightship.testing import MemoryRegistry

MakeLayer = Callable[..., Layer]


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as started:
        yield started


@pytest.fixture
def base(registry: MemoryRegistry, session: Session, make_layer: MakeLayer) -> Base:
    """Two layers in `bases/python` of the registry, not in the cache; and what was asked so far is forgotten."""
    layers = tuple(make_layer({f"usr/lib/{name}": (name.encode() * 5000, 0o644)}) for name in ("one", "two"))
    image = Image(layers, Settings(entrypoint=("/bin/sh",), environment=(("PYTHON_VERSION", "3.11.9"),)))
    name = f"{registry.address}/bases/python:3"
    push_image(image, Reference.parse(name), session)
    for layer in layers:
        session.cache.blob_path(layer.digest).unlink()
    found = build_image_base(lock_image(name, Platform(), session), session)
    registry.requests.clear()
    return found


@pytest.fixture
def image(base: Base, make_layer: MakeLayer) -> Image:
    app = make_layer({"app/serve.py": (b"print()", 0o644)})
    annotations = ((BASE_DIGEST, base.digest or ""), (BASE_NAME, base.reference))
    layers = (*(replace(layer, unpacked_size=0) for layer in base.layers), app)
    return Image(layers, Settings(entrypoint=("/bin/sh",)), annotations=annotations)


def fetched(registry: MemoryRegistry) -> list[str]:
    """Digests of the blobs whose bytes were asked for, in order."""
    return sorted(path.rpartition("/")[2] for path in registry.asked("GET") if "/blobs/sha256:" in path)


def digests(base: Base) -> list[str]:
    return sorted(layer.digest for layer in base.layers)


def test_where_the_base_is_nothing_of_it_is_fetched(
    registry: MemoryRegistry, session: Session, base: Base, image: Image
) -> None:
    pushed = push_image(image, Reference.parse(f"{registry.address}/bases/python:app"), session)
    assert [pushed.blobs[digest] for digest in digests(base)] == [Outcome.THERE] * 2
    assert fetched(registry) == []


def test_in_another_repository_of_the_registry_it_is_mounted(
    registry: MemoryRegistry, session: Session, base: Base, image: Image
) -> None:
    pushed = push_image(image, Reference.parse(f"{registry.address}/team/app:1"), session)
    assert [pushed.blobs[digest] for digest in digests(base)] == [Outcome.MOUNTED] * 2
    assert fetched(registry) == []


def test_into_an_empty_registry_each_layer_travels_once(
    registry: MemoryRegistry, session: Session, base: Base, image: Image
) -> None:
    with MemoryRegistry() as empty:
        pushed = push_image(image, Reference.parse(f"{empty.address}/team/app:1"), session)
        assert set(pushed.blobs.values()) == {Outcome.SENT}
        assert fetched(empty) == []
        again = push_image(image, Reference.parse(f"{empty.address}/team/app:2"), session)
        assert set(again.blobs.values()) == {Outcome.THERE}
    assert fetched(registry) == digests(base)


def test_a_layout_without_the_base_is_completed_from_its_registry(
    registry: MemoryRegistry, session: Session, base: Base, image: Image, tmp_path: Path
) -> None:
    layout = write_layout(image, session.cache, tmp_path / "layout", name="app:1", sparse=True)
    assert not any((layout / "blobs" / "sha256" / each.removeprefix("sha256:")).exists() for each in digests(base))
    assert fetched(registry) == []
    assert read_layout(layout, session).digest == image.digest
    assert fetched(registry) == digests(base)
    assert all(session.cache.has_blob(digest) for digest in digests(base))


def test_what_is_known_of_its_unpacked_size_is_remembered(session: Session, base: Base) -> None:
    compressed = [layer for layer in base.layers if layer.digest != layer.diff_id]
    assert [known_unpacked_size(layer, session) for layer in compressed] == [None] * len(compressed)
    base.fetch()
    sizes = [known_unpacked_size(layer, session) for layer in base.layers]
    assert all(sizes)
    for layer in base.layers:
        session.cache.blob_path(layer.digest).unlink()
    assert [known_unpacked_size(layer, session) for layer in base.layers] == sizes
