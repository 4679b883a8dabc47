"""Layers: what an image is made of, known by digest before any byte of them exists.

A `Recipe` says how to write one layer and has a key that stands for all its inputs. `materialise` looks the
key up in the cache and, only where it is unknown, writes the layer. A rebuild is therefore look-ups.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Protocol

from lightship.assembled import CHANGED
from lightship.cache import BlobWriter, Cache
from lightship.errors import IntegrityError
from lightship.layers.compression import Compression, compressor, decompressed
from lightship.layers.gzip_members import GzipMembers
from lightship.layers.tar import Deflated, TarWriter


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

    `size` is of the stored bytes, `unpacked_size` of the plain tar, both in bytes.
    """

    kind: str
    title: str
    digest: str
    diff_id: str
    size: int
    unpacked_size: int
    media_type: str
    from_cache: bool = False

    @property
    def compression(self) -> Compression:
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
        stream = _LayerStream(blob, compression)
        tar = TarWriter(stream)
        recipe.write(tar)
        tar.close()
        stream.finish()
    layer = Layer(
        kind=recipe.kind,
        title=recipe.title,
        digest=blob.digest,
        diff_id=stream.diff_id,
        size=blob.size,
        unpacked_size=stream.size,
        media_type=compression.media_type,
    )
    record_layer(recipe, layer, cache, compression)
    return layer


def record_layer(recipe: Recipe, layer: Layer, cache: Cache, compression: Compression) -> None:
    """Let `cached_layer` find the layer of a recipe, whose blob is in the cache."""
    kept = {name: value for name, value in asdict(layer).items() if name in _RECORDED}
    cache.write_record("layers", _record_key(recipe, compression), kept)


def cached_layer(recipe: Recipe, cache: Cache, compression: Compression) -> Layer | None:
    """The layer of a recipe where the cache has it, whole."""
    record = cache.read_record("layers", _record_key(recipe, compression))
    layer = _layer_of_record(recipe, record) if record else None
    return layer if layer and cache.has_blob(layer.digest, layer.size) else None


def _record_key(recipe: Recipe, compression: Compression) -> str:
    return f"{recipe.key}-{compression.key}"


_RECORDED = ("digest", "diff_id", "size", "unpacked_size", "media_type")


def _layer_of_record(recipe: Recipe, record: dict[str, Any]) -> Layer | None:
    try:
        return Layer(kind=recipe.kind, title=recipe.title, from_cache=True, **{k: record[k] for k in _RECORDED})
    except KeyError:
        return None


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


class _LayerStream:
    """Between the tar writer and the blob: hashes the plain bytes (diff ID) and compresses them.

    Tar headers are 512 bytes; gathering them into larger pieces keeps the cost of a call per piece away.
    """

    def __init__(self, blob: BlobWriter, compression: Compression) -> None:
        self._blob = blob
        self._compressor = compressor(compression)
        self._hash = hashlib.sha256()
        self._pending: list[bytes] = []
        self._pending_size = 0
        self.size = 0

    def write(self, data: bytes, /) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= 1 << 18:
            self._pass_on()

    def splice(self, pieces: Iterable[Deflated], crc: int, size: int, /) -> None:
        """Content in its compressed form: kept as it is in gzip, inflated and compressed anew elsewhere."""
        if not isinstance(self._compressor, GzipMembers):
            for piece in pieces:
                self.write(piece.plain)
            return
        self._pass_on()
        self._blob.write(self._compressor.begin_member())
        for piece in pieces:
            self._hash.update(piece.plain)
            self._blob.write(piece.stored)
        self._blob.write(self._compressor.end_member(crc, size))
        self.size += size

    def finish(self) -> None:
        self._pass_on()
        self._blob.write(self._compressor.flush())

    @property
    def diff_id(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def _pass_on(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        self._hash.update(data)
        self.size += len(data)
        if compressed := self._compressor.compress(data):
            self._blob.write(compressed)
