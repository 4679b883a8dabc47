"""One tar that every tool reads: an OCI layout and what `docker load` wants, over the same blobs.

`docker save` writes this form since Docker 25. `manifest.json`, `index.json` and `oci-layout` come first, so that a
reader of a stream knows what it gets before the gigabytes pass. Same image, same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from lightship.cache import CHUNK, Cache, storing
from lightship.layers import Compression, Layer, TarWriter, missing_layer, plain_tar, uncompressed
from lightship.layers.tar import Sink
from lightship.oci.image import Built, Image, ImageIndex, canonical_json
from lightship.oci.layout import LAYOUT_FILE, layout_index
from lightship.oci.name import DEFAULT_TAG, Reference


def write_archive(image: Built, cache: Cache, target: Path | Sink, *, name: str, plain: bool = False) -> None:
    """Write the image as one tar, to a file (atomically) or into a stream such as the input of `docker load`.

    Args:
        name: What the image is called, as in `docker run NAME`; `:latest` where it has no tag.
        plain: Decompress zstd layers on the way, for engines that cannot (Docker before 23). The image ID stays
            the same, the manifest's digest does not. Gzip layers are read by everyone and stay.

    Raises:
        IntegrityError: A layer is not in the cache any more, or is damaged.
        StorageError: The file cannot be written; what was there before is still there.
    """
    if not isinstance(target, Path):
        _write(image, cache, target, name, plain)
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                _write(image, cache, file, name, plain)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def without_zstd(image: Built, cache: Cache) -> Built:
    """The same image with its zstd layers plain: a plain layer's digest is its diff ID, so nothing is computed.

    Only where a base does not say how large its layers are unpacked must they be decompressed to be measured.
    """

    def plain(layer: Layer) -> Layer:
        if layer.compression is not Compression.ZSTD:
            return layer
        size = layer.unpacked_size or sum(map(len, _plain_chunks(layer, cache)))
        return uncompressed(layer, size)

    if isinstance(image, Image):
        return replace(image, layers=tuple(plain(layer) for layer in image.layers))
    return ImageIndex(tuple(replace(each, layers=tuple(map(plain, each.layers))) for each in image.images))


def _write(image: Built, cache: Cache, stream: Sink, name: str, plain: bool) -> None:
    written = without_zstd(image, cache) if plain else image
    tar = TarWriter(stream)
    tar.content("manifest.json", docker_manifest(written.images[0], name))
    tar.content("index.json", layout_index(written, name))
    tar.content("oci-layout", LAYOUT_FILE)
    for digest, content in written.documents:
        tar.content(_blob(digest), content)
    layers = (zip(a.layers, b.layers, strict=True) for a, b in zip(image.images, written.images, strict=True))
    for source, layer in chain.from_iterable(layers):
        if _blob(layer.digest) in tar:
            continue  # an empty layer may stand in an image many times, and platforms share layers
        chunks = _stored_chunks(source, cache) if layer.digest == source.digest else _plain_chunks(source, cache)
        tar.file(_blob(layer.digest), layer.size, chunks)
    tar.close()


def docker_manifest(image: Image, name: str) -> bytes:
    """`manifest.json`, which is all that Docker's classic image store reads; it knows one platform only."""
    reference = Reference.parse(name)
    return canonical_json(
        [
            {
                "Config": _blob(image.config_digest),
                "RepoTags": [f"{reference.name}:{reference.tag or DEFAULT_TAG}"],
                "Layers": [_blob(layer.digest) for layer in image.layers],
            }
        ]
    )


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _stored_chunks(layer: Layer, cache: Cache) -> Iterator[bytes]:
    try:
        with cache.open_blob(layer.digest) as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except FileNotFoundError as error:
        raise missing_layer(layer, error) from error


def _plain_chunks(layer: Layer, cache: Cache) -> Iterator[bytes]:
    with plain_tar(layer, cache) as chunks:
        yield from chunks
