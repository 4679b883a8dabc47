"""Images of eStargz layers: what the manifest says of their tables survives every way out and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lightship.layers import Compression, prioritised
from lightship.layers.estargz import TOC_DIGEST
from lightship.oci.archive import without_zstd
from lightship.oci.image import Image
from lightship.oci.layout import write_layout
from lightship.oci.stored import read_layout
from lightship.session import Session

MakeImage = Callable[..., Image]


def tables(image: Image) -> list[str | None]:
    layers = json.loads(image.manifest)["layers"]
    return [layer.get("annotations", {}).get(TOC_DIGEST) for layer in layers]


def test_a_layout_read_back_is_the_same_image(session: Session, small_image: MakeImage, tmp_path: Path) -> None:
    image = small_image(compression=Compression.ESTARGZ)
    assert None not in tables(image)
    back = read_layout(write_layout(image, session.cache, tmp_path / "layout", name="iris:1"), session)
    assert isinstance(back, Image)
    assert back.digest == image.digest
    assert [layer.compression for layer in back.layers] == [Compression.ESTARGZ] * 2


def test_other_images_have_no_tables(small_image: MakeImage) -> None:
    for compression in (Compression.ZSTD, Compression.GZIP, Compression.NONE):
        layers = json.loads(small_image(compression=compression).manifest)["layers"]
        assert all(name.startswith("dev.lightship.") for layer in layers for name in layer["annotations"])


def test_an_engine_without_zstd_gets_it_as_it_is(session: Session, small_image: MakeImage) -> None:
    image = small_image(compression=Compression.ESTARGZ)
    assert without_zstd(image, session.cache).digest == image.digest


def test_an_image_in_another_order_is_another_image_with_its_own_tables(
    session: Session, small_image: MakeImage
) -> None:
    image = small_image(compression=Compression.ESTARGZ)
    early = replace(image, layers=tuple(prioritised(layer, ["/app/text"], session.cache) for layer in image.layers))
    assert early.layers[0].digest == image.layers[0].digest
    assert early.layers[1].digest != image.layers[1].digest
    assert tables(early)[1] not in (None, tables(image)[1])
