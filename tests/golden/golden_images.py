"""Images and layers whose digests are published in digests.toml. Run as a program, this writes the file anew:

    make golden

A digest may change only on purpose: with a change of what goes into a layer (raise the version of its recipe), or of
a library that compresses (its version stands in the file). Say in the changelog which digests are new, and why.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import deflate
import zstandard
from rich_images import ENVIRONMENT, FORMS, OddFiles, demo_wheel, make_rich_image, weights_file
from wheel_factory import source_of

from lightship.cache import Cache
from lightship.layers import Compression, materialise
from lightship.layers.files import FileEntry, FilesRecipe
from lightship.layers.weights import weigh
from lightship.layers.wheels import WheelsRecipe
from lightship.oci.archive import write_archive
from lightship.oci.image import ImageIndex, Platform
from lightship.session import Session

DIGESTS = Path(__file__).with_name("digests.toml")


def golden_digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Every name with its digest, made now, in an empty folder."""
    session = Session(Cache(folder / "cache"), environ={})
    cache = session.cache
    for form in FORMS:
        image = make_rich_image(form, session, folder)
        yield f"image-{form}", image.digest
        yield f"index-{form}", ImageIndex((image, replace(image, platform=Platform("arm64")))).digest
    image = make_rich_image("zstd", session, folder)
    yield "image-of-another-date", replace(image, created=1_700_000_000).digest
    for plain in (False, True):
        target = folder / "image.tar"
        write_archive(image, cache, target, name="example.org/rich:1", plain=plain)
        yield "archive-plain" if plain else "archive", "sha256:" + hashlib.sha256(target.read_bytes()).hexdigest()
    for level in ("none", "safe"):
        recipe = WheelsRecipe((source_of(demo_wheel(folder)),), ENVIRONMENT, level, None)  # type: ignore[arg-type]
        yield f"wheel-{level}", materialise(recipe, cache, Compression.NONE).digest
    yield "environment", materialise(ENVIRONMENT, cache, Compression.NONE).digest
    yield "odd-files", materialise(OddFiles(), cache, Compression.NONE).digest
    yield "weights", weigh([weights_file(folder)], cache, session.progress).layer.digest
    trees = weights_file(folder, compressible=True)
    yield "weights-that-compress", weigh([trees], cache, session.progress).layer.digest
    app = FilesRecipe("app", "app", (FileEntry.of_bytes("app/serve.py", b"app = 1\n"),))
    yield "app", materialise(app, cache, Compression.ZSTD).digest


def versions() -> dict[str, str]:
    """What decides compressed bytes besides this code."""
    return {"deflate": deflate.__version__, "zstd": ".".join(map(str, zstandard.ZSTD_VERSION))}


def render(folder: Path) -> str:
    """The text of digests.toml."""
    lines = ["# Written by `make golden`; see golden_images.py.", "[versions]"]
    lines += [f'{name} = "{version}"' for name, version in versions().items()]
    lines += ["", "[digests]"]
    lines += [f'{name} = "{digest}"' for name, digest in golden_digests(folder)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        sys.stdout.write(render(Path(directory)))
