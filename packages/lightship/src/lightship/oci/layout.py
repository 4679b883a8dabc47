"""OCI image layouts on disk: one directory per image, written from the cache and read with verification.

The format is image-spec's image-layout.md: `oci-layout`, `index.json` and `blobs/sha256/<hex>`. Blobs are hard
links to the cache where the file system allows it, so a layout costs no space and next to no time.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lightship.cache import Cache, storing
from lightship.errors import IntegrityError, ProjectError, StorageError
from lightship.layers import Layer, missing_layer
from lightship.oci.image import INDEX_TYPE, Image, canonical_json, descriptor, digest_of, platform_field
from lightship.oci.name import DEFAULT_TAG, Reference
from lightship.oci.published import MAX_DOCUMENT, Descriptor, Index, layer_download, parse, read_document
from lightship.session import Session

REF_NAME = "org.opencontainers.image.ref.name"  # the tag, by image-spec annotations.md
CONTAINERD_NAME = "io.containerd.image.name"  # the full name, read by containerd and by Docker since version 25
LAYOUT_FILE = canonical_json({"imageLayoutVersion": "1.0.0"})
_UNSAFE_TO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


class Storable(Protocol):
    """What a layout can hold: an image or an index that was made here, or an image that was pulled."""

    @property
    def digest(self) -> str: ...
    @property
    def manifest(self) -> bytes: ...
    @property
    def media_type(self) -> str: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...
    @property
    def documents(self) -> tuple[tuple[str, bytes], ...]:
        """Every document by its digest, the manifest first."""
        ...


def write_layout(image: Storable, cache: Cache, directory: Path, *, name: str, sparse: bool = False) -> Path:
    """Write the image as a layout and return the directory.

    A layout holds one image; one that is there already is replaced, and blobs that it no longer needs are removed.
    Blobs come first and `index.json` last, by rename, so a reader sees the old image or the new one. Where nothing
    changed, nothing is written.

    Args:
        name: What the image is called, as in `docker run NAME`; `:latest` where it has no tag.
        sparse: Leave out layers that the cache does not store either (image-spec image-layout.md allows that): for
            the cache's own layouts, whose readers ask the cache for them.

    Raises:
        StorageError: The directory holds something else, or cannot be written.
        IntegrityError: A layer is not in the cache any more.
    """
    index = layout_index(image, name)
    stored = [layer for layer in image.layers if not sparse or cache.is_stored(layer.digest)]
    expected = _expected(image, stored)
    if _is_complete(expected, directory, index):
        return directory
    with cache.lock(f"layout-{digest_of(os.fsencode(directory.absolute()))[-16:]}"), storing(directory):
        _refuse_to_overwrite(directory)
        blobs = directory / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for digest, content in image.documents:
            _write(blobs / digest.removeprefix("sha256:"), content)
        for layer in stored:
            _link(cache, layer, blobs / layer.digest.removeprefix("sha256:"))
        _write(directory / "oci-layout", LAYOUT_FILE)
        _write(directory / "index.json", index)
        _remove_others(expected, blobs)
    return directory


def layout_index(image: Storable, name: str) -> bytes:
    """`index.json` of a layout that holds this one image, or the index of its platforms."""
    reference = Reference.parse(name)
    entry = {
        **descriptor(image.media_type, image.manifest),
        **({"platform": platform_field(image.platform)} if isinstance(image, Image) else {}),
        "annotations": {
            REF_NAME: reference.tag or DEFAULT_TAG,
            CONTAINERD_NAME: f"{reference.name}:{reference.tag or DEFAULT_TAG}",
        },
    }
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})


def _is_complete(expected: Mapping[str, int], directory: Path, index: bytes) -> bool:
    """Whether the layout says what it should and every blob is there with its size."""
    try:
        if (directory / "index.json").read_bytes() != index or not (directory / "oci-layout").is_file():
            return False
        found = {entry.name: entry.stat().st_size for entry in os.scandir(directory / "blobs" / "sha256")}
    except OSError:
        return False
    return found == expected


def _expected(image: Storable, layers: Sequence[Layer]) -> dict[str, int]:
    """The size of each blob by its file name."""
    sizes = {digest: len(content) for digest, content in image.documents}
    sizes |= {layer.digest: layer.size for layer in layers}
    return {digest.removeprefix("sha256:"): size for digest, size in sizes.items()}


def _refuse_to_overwrite(directory: Path) -> None:
    """Only an empty place or a layout with one image may be written over."""
    hint = "Choose a directory that is empty or does not exist."
    if not directory.exists():
        return
    if not directory.is_dir():
        raise StorageError(f"{directory} is a file, and an OCI layout is a directory.", hint=hint)
    if not any(directory.iterdir()):
        return
    if not (directory / "oci-layout").is_file():
        if (directory / "blobs").is_dir() and not (directory / "index.json").exists():
            return  # a first write that was cut short
        raise StorageError(f"{directory} holds other files; an OCI layout is not written among them.", hint=hint)
    try:
        index = parse((directory / "index.json").read_bytes(), Index, str(directory / "index.json"))
    except (FileNotFoundError, IntegrityError):
        return
    if len(index.manifests) > 1:
        raise StorageError(f"The layout {directory} holds {len(index.manifests)} images, not one.", hint=hint)


def _write(path: Path, content: bytes) -> None:
    """Put small content in place, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _link(cache: Cache, layer: Layer, target: Path) -> None:
    """Put a blob in place: a hard link where possible, else a copy."""
    if not cache.has_blob(layer.digest, layer.size):
        raise missing_layer(layer)
    if target.is_file() and target.stat().st_size == layer.size:
        return
    source = cache.blob_path(layer.digest)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(source)
        except FileNotFoundError:
            _assemble(cache, layer, temporary)
        except OSError as error:
            if error.errno not in _UNSAFE_TO_LINK:
                raise
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _assemble(cache: Cache, layer: Layer, target: Path) -> None:
    """Write out a blob that the cache does not store."""
    assembly = cache.assembly(layer.digest)
    if assembly is None:
        raise missing_layer(layer)
    try:
        assembly.write(target)
    except FileNotFoundError as error:
        raise missing_layer(layer, error) from error


def _remove_others(expected: Mapping[str, int], blobs: Path) -> None:
    for path in blobs.iterdir():
        if path.name not in expected and not path.is_dir():
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class LayoutSource:
    """An image in a layout, as a `published.Source`."""

    directory: Path
    tag: str | None
    chosen: Descriptor

    def __str__(self) -> str:
        return f"oci:{self.directory}" + (f":{self.tag}" if self.tag else "")

    def top(self) -> bytes:
        return read_document(self, self.chosen)

    def document(self, descriptor: Descriptor) -> bytes:
        path = self.path(descriptor)
        try:
            with path.open("rb") as file:
                return file.read(descriptor.size + 1)
        except OSError as error:
            raise IntegrityError(
                f"{self} lacks the blob {descriptor.digest} ({error.strerror}).",
                hint="Copy the layout again, with every blob (`skopeo copy --preserve-digests`).",
            ) from error

    def pull(self, layers: Sequence[Descriptor], session: Session) -> None:
        from lightship.download import download_all

        download_all([layer_download(layer, str(self.path(layer))) for layer in layers], session, title="base layers")

    def path(self, descriptor: Descriptor) -> Path:
        """Where a blob lies, or should."""
        return self.directory / "blobs" / "sha256" / descriptor.digest.removeprefix("sha256:")


def open_layout(directory: Path, tag: str | None = None) -> LayoutSource:
    """Find an image in a layout: the one with the tag, or the only one.

    The result is read with `published.read_image`, which verifies what it reads.
    """
    name = f"oci:{directory}"
    try:
        with (directory / "index.json").open("rb") as file:
            content = file.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise ProjectError(
            f"{directory} is not an OCI layout: {directory / 'index.json'} cannot be read ({error.strerror}).",
            hint="Give the directory that holds `index.json`; `skopeo copy SOURCE oci:DIRECTORY` makes one.",
        ) from error
    if len(content) > MAX_DOCUMENT:
        raise IntegrityError(f"The index of {name} has more than {MAX_DOCUMENT} bytes.")
    index = parse(content, Index, f"the index of {name}")
    tags = [(entry.annotations or {}).get(REF_NAME) for entry in index.manifests]
    chosen = [entry for entry, found in zip(index.manifests, tags, strict=True) if tag is None or found == tag]
    if len(chosen) == 1:
        return LayoutSource(directory, tag, chosen[0])
    if not chosen and not tag:
        raise ProjectError(f"The layout {directory} is empty.")
    offered = ", ".join(sorted(found for found in tags if found)) or "no tags"
    if chosen and not tag:
        raise ProjectError(
            f"The layout {directory} holds {len(chosen)} images.", hint=f"Say which: {name}:TAG ({offered})."
        )
    problem = f"holds {len(chosen)} images" if chosen else "holds no image"
    raise ProjectError(f"The layout {directory} {problem} with the tag {tag!r}.", hint=f"It has: {offered}.")
