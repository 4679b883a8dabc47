"""Bytecode by wheel, kept in the cache: where one wheel of a layer changes, the others are not compiled again."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from lightship.cache import Cache
from lightship.errors import IntegrityError
from lightship.layers.layer import recipe_key

_VERSION = 2  # of the form below, and of what the compiler makes of a source
_HEAD = struct.Struct("<IQ")  # bytes of the path, bytes of the bytecode
_RECORDS = "bytecode"
_LEVEL = 1  # of zstd: they are read back once or twice, and 4 MB shrink to one


@dataclass(frozen=True)
class BytecodeStore:
    """Keeps pairs of a source's path and its bytecode, in the order in which they came."""

    cache: Cache

    def key(self, wheel: str, python: str, paths: Iterable[str]) -> str:
        """The key for the sources at `paths` (in the image) of a wheel, by its sha256, for a version of Python."""
        return recipe_key("bytecode", _VERSION, wheel, python, *paths)

    def find(self, key: str) -> Path | None:
        """Where what was kept lies; None where nothing was."""
        record = self.cache.read_record(_RECORDS, key)
        if record and self.cache.has_blob(str(record["digest"]), int(record["size"])):
            return self.cache.blob_path(str(record["digest"]))
        return None

    def keep(self, key: str, compiled: Iterable[tuple[str, bytes]]) -> Path:
        """Keep the pairs, and return where they lie."""
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        with self.cache.new_blob() as blob:
            for path, bytecode in compiled:
                name = path.encode("utf-8", "surrogateescape")
                blob.write(compressor.compress(_HEAD.pack(len(name), len(bytecode)) + name + bytecode))
            blob.write(compressor.flush())
        self.cache.write_record(_RECORDS, key, {"digest": blob.digest, "size": blob.size})
        return self.cache.blob_path(blob.digest)


def kept(path: Path) -> Iterator[tuple[str, bytes]]:
    """The pairs that `BytecodeStore` keeps at a path. Raises `IntegrityError` where the file is damaged."""
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            while head := stream.read(_HEAD.size):
                name_size, size = _HEAD.unpack(head)
                yield _exactly(stream, name_size).decode("utf-8", "surrogateescape"), _exactly(stream, size)
    except (OSError, zstandard.ZstdError, struct.error, EOFError) as error:
        raise IntegrityError(
            f"The bytecode kept in {path} is damaged: {error}.",
            hint="`lightship cache verify` removes what is damaged; then build again.",
        ) from error


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("it ends too early")
    return content
