"""Images come out of a registry as they went in, each layer once, and wrong bytes never."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightship.cache import Cache
from lightship.errors import IntegrityError, ProjectError
from lightship.oci.image import Image, ImageIndex, Platform
from lightship.oci.layout import write_layout
from lightship.oci.name import Reference
from lightship.oci.pull import pull_image
from lightship.oci.push import push_image
from lightship.oci.stored import read_layout
from lightship.session import Session
from lightship.testing import Fault, Faults, MemoryRegistry

MakeImage = Callable[..., Image]


def test_a_pulled_image_is_what_was_pushed(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image()
    fresh = replace(session, cache=Cache(tmp_path / "fresh"))
    with MemoryRegistry() as registry:
        reference = Reference.parse(f"{registry.address}/team/x:1")
        push_image(image, reference, session)
        pulled = pull_image(reference, fresh)
        assert (pulled.digest, pulled.size) == (image.digest, image.size)
        layout = write_layout(pulled, fresh.cache, tmp_path / "layout", name=str(reference))
        assert read_layout(layout, fresh).digest == image.digest
        before = len(registry.asked("GET"))
        pull_image(reference, fresh)
        assert not [path for path in registry.asked("GET")[before:] if path.endswith(image.layers[0].digest)]


def test_the_platform_chooses_from_an_index(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    arm = replace(small_image("arm64"), platform=Platform("arm64"))
    with MemoryRegistry() as registry:
        reference = Reference.parse(f"{registry.address}/x:1")
        push_image(ImageIndex((small_image("amd64"), arm)), reference, session)
        fresh = replace(session, cache=Cache(tmp_path / "fresh"))
        assert pull_image(reference, fresh, Platform("arm64")).digest == arm.digest
        with pytest.raises(ProjectError, match="s390x"):
            pull_image(reference, fresh, Platform("s390x"))


@pytest.mark.parametrize("fault", [Fault.WRONG_DIGEST, Fault.TRUNCATED])
def test_wrong_bytes_stay_out_of_the_cache(
    session: Session, small_image: MakeImage, tmp_path: Path, fault: Fault
) -> None:
    image = small_image()
    fresh = replace(session, cache=Cache(tmp_path / "fresh"))
    digest = image.layers[1].digest
    with MemoryRegistry() as registry:
        reference = Reference.parse(f"{registry.address}/x:1")
        push_image(image, reference, session)
        registry.faults = Faults(choose=lambda method, path: fault if method == "GET" and digest in path else None)
        with pytest.raises(IntegrityError):
            pull_image(reference, fresh)
    assert not fresh.cache.has_blob(digest)
