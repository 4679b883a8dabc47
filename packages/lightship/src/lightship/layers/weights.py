"""Layers of weights: shards of like size, read once, compressed only where that pays, and never copied when large.

Weights are most of an image and hardly compress, so their layers are plain tar, whose digest is its diff ID. Those of
some size are not even stored: one pass over the files gives the digest of each file and of the layer, and the cache
keeps the few headers between them (assembled.py). What reads the layer later reads the files where they lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import zstandard

from lightship.assembled import Assembly, FilePart, FileState, Part
from lightship.cache import CHUNK, Cache
from lightship.errors import ProjectError
from lightship.file_digests import remember_digest, remembered_digest
from lightship.layers.compression import ZSTD_LEVEL, Compression
from lightship.layers.files import FileEntry, FilesRecipe
from lightship.layers.layer import Layer, cached_layer, layer_annotations, materialise, record_layer
from lightship.layers.tar import TarWriter
from lightship.progress import Progress

SHARD = 1 << 30  # bytes; engines fetch three layers at a time by default, and smaller ones gain nothing
MOST_SHARDS = 8  # with the other layers, an image stays at 30 or below
IN_PLACE = 64 << 20  # bytes; a copy of less than this does no harm, and outlives the file
PAYS = 0.6  # compressed to uncompressed; above it, unpacking takes longer than a common network does
_SAMPLES = 8  # pieces of a file that are compressed to see
_SAMPLE = 1 << 20  # bytes of each


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights: its path in the image, where it lies, and its size in bytes."""

    path: str
    source: Path
    size: int
    executable: bool = False


@dataclass(frozen=True)
class Weighed:
    """A layer of weights, and its files with their digests."""

    layer: Layer
    files: tuple[FileEntry, ...]


def shards(files: Sequence[WeightsFile]) -> tuple[tuple[WeightsFile, ...], ...]:
    """Which files share a layer: neighbours by path, a gigabyte or an eighth of all; no file is ever split.

    A file belongs to the share that its middle lies in, so there are never more layers than shares.
    """
    size = max(SHARD, -(-sum(file.size for file in files) // MOST_SHARDS))
    groups: dict[int, list[WeightsFile]] = {}
    before = 0
    for file in sorted(files, key=lambda file: file.path):
        groups.setdefault((before + file.size // 2) // size, []).append(file)
        before += file.size
    return tuple(tuple(group) for group in groups.values())


def weigh(
    shard: Sequence[WeightsFile], cache: Cache, progress: Progress, compression: Compression = Compression.ZSTD
) -> Weighed:
    """The layer of a shard: from the cache, or by reading its files once.

    Args:
        compression: What to use where it pays.

    Raises: `ProjectError` where a file cannot be read, or changes meanwhile.
    """
    title = ", ".join(file.path.removeprefix("app/") for file in shard)
    try:
        if known := _remembered(shard, cache):
            recipe = FilesRecipe("weights", title, known)
            if choice := cache.read_record("weights", recipe.key):
                chosen = compression if choice["pays"] else Compression.NONE
                if layer := cached_layer(recipe, cache, chosen):
                    return Weighed(layer, known)
        pays = compression is not Compression.NONE and worth_compressing(shard)
        if pays or sum(file.size for file in shard) < IN_PLACE:
            entries = tuple(_entry(file, cache) for file in shard)
            recipe = FilesRecipe("weights", title, entries)
            layer = materialise(recipe, cache, compression if pays else Compression.NONE)
        else:
            recipe, layer = _in_place(shard, title, cache, progress)
        cache.write_record("weights", recipe.key, {"pays": pays})
        return Weighed(layer, recipe.files)
    except OSError as error:
        raise ProjectError(f"Could not read {error.filename}: {error.strerror}.") from error


def worth_compressing(shard: Sequence[WeightsFile]) -> bool:
    """Whether samples of the files, together, compress well enough. The same files, the same answer."""
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    before = after = 0
    for file in shard:
        for sample in _samples(file):
            before += len(sample)
            after += len(compressor.compress(sample))
    return after < before * PAYS


def _samples(file: WeightsFile) -> Iterator[bytes]:
    """Pieces from all over a file: its whole, where it is small."""
    places = range(_SAMPLES) if file.size > _SAMPLES * _SAMPLE else range(-(-file.size // _SAMPLE))
    step = file.size // _SAMPLES if file.size > _SAMPLES * _SAMPLE else _SAMPLE
    with file.source.open("rb") as content:
        for place in places:
            content.seek(place * step)
            yield content.read(_SAMPLE)


def _remembered(shard: Sequence[WeightsFile], cache: Cache) -> tuple[FileEntry, ...] | None:
    """The files with their digests, where none has to be read: small ones are, at once."""
    entries = []
    for file in shard:
        if file.size >= IN_PLACE and remembered_digest(file.source, cache) is None:
            return None
        entries.append(_entry(file, cache))
    return tuple(entries)


def _entry(file: WeightsFile, cache: Cache) -> FileEntry:
    return FileEntry.of_file(file.path, file.source, cache, executable=file.executable)


def _in_place(
    shard: Sequence[WeightsFile], title: str, cache: Cache, progress: Progress
) -> tuple[FilesRecipe, Layer]:
    """Read the files once, for their digests and the layer's, and keep how the layer is put together."""
    sink = _Parts()
    tar = TarWriter(sink)
    entries = []
    total = sum(file.size for file in shard)
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as beside, progress.task(f"Reading {title}", total) as task:
        for file in sorted(shard, key=lambda file: file.path):
            state = FileState.of(file.source)
            hashed = hashlib.sha256()
            mode = 0o755 if file.executable else 0o644
            part = FilePart(str(file.source.resolve()), state)
            pieces = _hashed(part, hashed, beside, task.advance)
            tar.file(file.path, state.size, sink.passing(part, pieces), mode=mode)
            if not part.is_intact():
                raise ProjectError(f"{file.source} changed while the image was built.", hint="Build again.")
            digest = "sha256:" + hashed.hexdigest()
            remember_digest(file.source, state, digest, cache)
            entries.append(FileEntry(file.path, digest, state.size, mode, file.source))
    tar.close()
    assembly, digest = sink.assembly(), sink.digest
    recipe = FilesRecipe("weights", title, tuple(entries))
    layer = Layer(
        kind="weights",
        title=title,
        digest=digest,
        diff_id=digest,
        size=assembly.size,
        unpacked_size=assembly.size,
        media_type=Compression.NONE.media_type,
        annotations=layer_annotations(recipe, Compression.NONE, assembly.size),
    )
    cache.add_assembly(digest, assembly)
    record_layer(recipe, layer, cache, Compression.NONE)
    return recipe, layer


def _hashed(
    part: FilePart, hashed: hashlib._Hash, beside: ThreadPoolExecutor, advance: Callable[[int], None]
) -> Iterator[bytes]:
    """The file in pieces. Whoever takes them hashes them too, so this hash goes on another core meanwhile."""
    with Path(part.path).open("rb", buffering=0) as content:
        while piece := content.read(CHUNK):
            update = beside.submit(hashed.update, piece)
            yield piece
            update.result()
            advance(len(piece))


class _Parts:
    """Where the tar goes: hashed, its headers kept, and the files' content left where it is."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._parts: list[Part] = []
        self._headers = bytearray()
        self._passes = False

    def write(self, data: bytes, /) -> None:
        self._hash.update(data)
        if not self._passes:
            self._headers += data

    def passing(self, part: FilePart, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces of a file; what is written while they are taken is its content."""
        self._end_headers()
        self._parts.append(part)
        self._passes = True
        yield from pieces
        self._passes = False

    def assembly(self) -> Assembly:
        self._end_headers()
        return Assembly(tuple(self._parts))

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def _end_headers(self) -> None:
        if self._headers:
            self._parts.append(bytes(self._headers))
            self._headers.clear()
