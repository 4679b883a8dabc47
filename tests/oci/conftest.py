"""Small images, for tests that only look at documents and blobs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lightship.layers import Compression, Layer
from lightship.oci.image import Image, Settings


@pytest.fixture
def small_image(make_layer: Callable[..., Layer]) -> Callable[..., Image]:
    """`small_image(text, compression)`: two layers, the second of which holds the text."""

    def make(text: str = "hello", compression: Compression = Compression.ZSTD) -> Image:
        system = make_layer({"etc/os-release": (b'PRETTY_NAME="A test"\n', 0o644)}, compression)
        app = make_layer({"app/text": (text.encode(), 0o644)}, compression)
        return Image((system, app), Settings(entrypoint=("/bin/true",)))

    return make
