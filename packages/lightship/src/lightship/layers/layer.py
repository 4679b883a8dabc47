"""Layers: what an image is made of, known by digest before any byte of them exists.

A `Recipe` says how to write one layer and has a key that stands for all its inputs. `materialise` looks the
key up in the cache and, only where it is unknown, writes the layer. A rebuild is therefore look-ups.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, Protocol

from lightship.assembled import CHANGED
from lightship.cache import Cache
from lightship.errors import IntegrityError
from lightship.layers.compression import Compression, decompressed
from lightship.layers.estargz import TOC_DIGEST
from lightship.layers.layer_stream import layer_sink
from lightship.layers.tar import TarWriter


class Recipe(Protocol):
    """How to make one layer. Two recipes with one key write the same bytes, on any machine.

    The key is `recipe_key(...)` of everything that the bytes depend on, a version number of the recipe's code
    among them. `kind` is what the layer holds: base, runtime, wheel, wheels, weights or app.
    """

    @property
    def key(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def title(self) -> str:
        """What the layer holds, for people: `scipy 1.16.2`, `12 small packages`."""
        ...

    def write(self, tar: TarWriter) -> None:
        """Write every entry of the layer; the caller closes the archive."""
        ...


@dataclass(frozen=True)
class Layer:
    """A layer that is in the cache (or in the base's registry): everything a manifest and a config need.

    `size` is of the stored bytes, `unpacked_size` of the plain tar, both in bytes. `annotations` are the
    descriptor's.
    """

    kind: str
    title: str
    digest: str
    diff_id: str
    size: int
    unpacked_size: int
    media_type: str
    from_cache: bool = False
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def compression(self) -> Compression:
        if TOC_DIGEST in dict(self.annotations):
            return Compression.ESTARGZ
        return Compression.of_media_type(self.media_type)


def recipe_key(recipe: str, version: int, *inputs: str) -> str:
    """The key of a recipe: its name and version and everything its bytes depend on, hashed without ambiguity."""
    hashed = hashlib.sha256()
    for part in (recipe, str(version), *inputs):
        encoded = part.encode()
        hashed.update(len(encoded).to_bytes(8, "big"))
        hashed.update(encoded)
    return f"{recipe}-{hashed.hexdigest()}"


def materialise(recipe: Recipe, cache: Cache, compression: Compression) -> Layer:
    """The layer of a recipe: from the cache, or written now."""
    if layer := cached_layer(recipe, cache, compression):
        return layer
    with cache.new_blob() as blob:
        stream = layer_sink(blob, compression)
        tar = TarWriter(stream)
        recipe.write(tar)
        annotations = stream.conclude(tar)
    layer = Layer(
        kind=recipe.kind,
        title=recipe.title,
        digest=blob.digest,
        diff_id=stream.diff_id,
        size=blob.size,
        unpacked_size=stream.size,
        media_type=compression.media_type,
        annotations=layer_annotations(recipe, compression, stream.size, annotations),
    )
    record_layer(recipe, layer, cache, compression)
    return layer


def record_layer(recipe: Recipe, layer: Layer, cache: Cache, compression: Compression) -> None:
    """Let `cached_layer` find the layer of a recipe, whose blob is in the cache."""
    kept = {name: value for name, value in asdict(layer).items() if name in _RECORDED}
    if own := {name: value for name, value in layer.annotations if name not in _KNOWN}:
        kept["annotations"] = own
    cache.write_record(LAYER_RECORDS, record_key(recipe.key, compression.key), kept)


def cached_layer(recipe: Recipe, cache: Cache, compression: Compression) -> Layer | None:
    """The layer of a recipe where the cache has it, whole, or knows that it lies elsewhere."""
    record = cache.read_record(LAYER_RECORDS, record_key(recipe.key, compression.key))
    layer = _layer_of_record(recipe, record, compression) if record else None
    return layer if layer and (cache.has_blob(layer.digest, layer.size) or cache.elsewhere(layer.digest)) else None


def layer_annotations(
    recipe: Recipe, compression: Compression, unpacked_size: int, own: Iterable[tuple[str, str]] = ()
) -> tuple[tuple[str, str], ...]:
    """The descriptor's annotations: whoever has the manifest knows what the layer was made of, without its bytes."""
    known = {RECIPE: recipe.key, COMPRESSION: compression.key, UNPACKED_SIZE: str(unpacked_size)}
    return tuple(sorted({**dict(own), **known}.items()))


def record_key(recipe: str, compression: str) -> str:
    """The key of the cache's record of a layer, by the keys of its recipe and its compression."""
    return f"{recipe}-{compression}"


LAYER_RECORDS = "layers"  # the cache's records of what was made of which recipe
RECIPE = "dev.lightship.recipe"  # an annotation: the key of the recipe, which is the same for every builder
COMPRESSION = "dev.lightship.compression"  # an annotation: what the recipe's bytes were compressed with, exactly
UNPACKED_SIZE = "dev.lightship.unpacked-size"  # an annotation, in bytes: neither manifest nor config tells it
_KNOWN = (RECIPE, COMPRESSION, UNPACKED_SIZE)  # what follows from the recipe, and is not recorded again
_RECORDED = ("digest", "diff_id", "size", "unpacked_size", "media_type")


def _layer_of_record(recipe: Recipe, record: dict[str, Any], compression: Compression) -> Layer | None:
    try:
        own = record.get("annotations", {}).items()
        annotations = layer_annotations(recipe, compression, record["unpacked_size"], own)
        known = {name: record[name] for name in _RECORDED}
        return Layer(kind=recipe.kind, title=recipe.title, from_cache=True, annotations=annotations, **known)
    except (KeyError, AttributeError):
        return None


def uncompressed(layer: Layer, size: int) -> Layer:
    """The same layer stored plainly, as if its recipe had been made so; `size` in bytes of the plain tar."""
    annotations = dict(layer.annotations)
    if RECIPE in annotations:
        annotations |= {COMPRESSION: Compression.NONE.key, UNPACKED_SIZE: str(size)}
    return replace(
        layer,
        digest=layer.diff_id,
        size=size,
        unpacked_size=size,
        media_type=Compression.NONE.media_type,
        annotations=tuple(sorted(annotations.items())),
    )


def missing_layer(layer: Layer, error: OSError | None = None) -> IntegrityError:
    """The error for a layer that was there when the image was built."""
    cause = f": {error.filename} has changed since, or is gone" if error and error.strerror == CHANGED else ""
    return IntegrityError(
        f"The layer {layer.title!r} ({layer.digest}) is not in the cache any more{cause}.", hint="Build again."
    )


@contextmanager
def plain_tar(layer: Layer, cache: Cache) -> Iterator[Iterator[bytes]]:
    """The layer as an uncompressed tar stream, in pieces.

    At the end of the stream it must have been what the diff ID names: much is found by diff ID, so an image that lies
    about one could otherwise put its files into another image.
    """
    try:
        file: BinaryIO = cache.open_blob(layer.digest)
    except FileNotFoundError as error:
        raise missing_layer(layer, error) from error
    with file:
        yield _verified(decompressed(file, layer.compression), layer)


def _verified(chunks: Iterator[bytes], layer: Layer) -> Iterator[bytes]:
    hashed = hashlib.sha256()
    seen = 0
    try:
        for chunk in chunks:
            seen += len(chunk)
            if layer.unpacked_size and seen > layer.unpacked_size:
                raise IntegrityError(
                    f"The layer {layer.title!r} unpacks to more than its {layer.unpacked_size} bytes."
                )
            hashed.update(chunk)
            yield chunk
    except FileNotFoundError as error:
        raise missing_layer(layer, error) from error
    if "sha256:" + hashed.hexdigest() != layer.diff_id:
        raise IntegrityError(f"The layer {layer.title!r} does not unpack to its diff ID {layer.diff_id}.")
