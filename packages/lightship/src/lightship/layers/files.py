"""Layers of plain files: the app's code, the weights, generated configuration. Keyed by content, never by date."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightship.cache import CHUNK, Cache
from lightship.errors import ProjectError
from lightship.file_digests import known_digest
from lightship.layers.layer import recipe_key
from lightship.layers.tar import TarWriter

VERSION = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of a layer: its path in the image, its digest and size in bytes, and where its bytes are."""

    path: str
    digest: str
    size: int
    mode: int
    content: Path | bytes

    @classmethod
    def of_bytes(cls, path: str, content: bytes, mode: int = 0o644) -> FileEntry:
        return cls(path, "sha256:" + hashlib.sha256(content).hexdigest(), len(content), mode, content)

    @classmethod
    def of_file(cls, path: str, source: Path, cache: Cache, *, executable: bool = False) -> FileEntry:
        """A file on disk. The digest of a large one is remembered with its size, time and inode."""
        mode = 0o755 if executable else 0o644
        try:
            return cls(path, known_digest(source, cache), source.stat().st_size, mode, source)
        except OSError as error:
            raise ProjectError(f"Could not read {source}: {error.strerror}.") from error

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces; that it is still the content that was hashed is checked on the way."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        hashed = hashlib.sha256()
        with self.content.open("rb") as file:
            while chunk := file.read(CHUNK):
                hashed.update(chunk)
                yield chunk
        if "sha256:" + hashed.hexdigest() != self.digest:
            raise ProjectError(f"{self.content} changed while the image was built.", hint="Build again.")


@dataclass(frozen=True)
class FilesRecipe:
    """A layer of files, all owned by root and writable by nobody else."""

    kind: str
    title: str
    files: tuple[FileEntry, ...]

    @property
    def key(self) -> str:
        return recipe_key("files", VERSION, *(f"{file.path}\0{file.digest}\0{file.mode:o}" for file in self._sorted))

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def write(self, tar: TarWriter) -> None:
        for file in self._sorted:
            tar.file(file.path, file.size, file.chunks(), mode=file.mode)

    @property
    def _sorted(self) -> Sequence[FileEntry]:
        return sorted(self.files, key=lambda file: file.path)
