"""Images that somebody else published: their manifests and configs, read with bounds, and where they come from.

A `Source` (an OCI layout, a registry) hands out documents and blobs; the functions here walk from an index to one
platform's manifest and config, believe nothing that does not match its digest and size, and keep what they were
given byte for byte, because a digest is over bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

import msgspec

from lightship.cache import Cache
from lightship.errors import IntegrityError, LightshipError, ProjectError
from lightship.layers import Compression
from lightship.oci.image import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, Platform, digest_of
from lightship.progress import Progress, Silent

DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MANIFEST_TYPES = (MANIFEST_TYPE, DOCKER_MANIFEST_TYPE)
INDEX_TYPES = (INDEX_TYPE, DOCKER_INDEX_TYPE)
CONFIG_TYPES = (CONFIG_TYPE, DOCKER_CONFIG_TYPE)
LAYER_TYPES = (
    *(compression.media_type for compression in Compression),
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",  # not standardised, but containerd and BuildKit know it
)

MAX_DOCUMENT = 8 << 20  # bytes of a manifest, index or config; registries must take 4 MiB (distribution-spec)
MAX_LAYERS = 127  # what overlay mounts can hold
MAX_NESTING = 3  # an index may list an index

Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class PlatformField(msgspec.Struct, frozen=True):
    """The platform of a descriptor in an index."""

    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """A pointer to bytes by digest and size (image-spec descriptor.md)."""

    media_type: str
    digest: Digest
    size: Size
    platform: PlatformField | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """An image manifest; OCI's and Docker's are the same in what is read here."""

    schema_version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str | None = None


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """An image index, or Docker's manifest list."""

    schema_version: int
    manifests: list[Descriptor]
    media_type: str | None = None


class ContainerSettings(msgspec.Struct, frozen=True):
    """The part of a config's `config` that an image built upon it inherits."""

    env: list[str] | None = msgspec.field(name="Env", default=None)


class HistoryEntry(msgspec.Struct, frozen=True):
    """One line of a config's history."""

    created_by: str = ""


class RootFilesystem(msgspec.Struct, frozen=True):
    """The diff IDs of the layers."""

    diff_ids: list[Digest]


class Config(msgspec.Struct, frozen=True):
    """An image config (image-spec config.md); unknown fields are no error."""

    architecture: str
    os: str
    rootfs: RootFilesystem
    config: ContainerSettings | None = None
    history: list[HistoryEntry] | None = None


@dataclass(frozen=True)
class PublishedImage:
    """A published image of one platform: documents verified, layers not yet fetched."""

    digest: str  # of the manifest
    manifest: Manifest
    config: Config

    @property
    def layers(self) -> tuple[tuple[Descriptor, str], ...]:
        """Each layer's descriptor with its diff ID, base first."""
        return tuple(zip(self.manifest.layers, self.config.rootfs.diff_ids, strict=True))


class Source(Protocol):
    """Where a published image comes from. What it hands out is verified by the functions of this module."""

    def __str__(self) -> str:
        """Its name, for messages."""
        ...

    def top(self) -> tuple[str, bytes]:
        """Media type and bytes of the manifest or index that the source's reference names."""
        ...

    def document(self, descriptor: Descriptor) -> bytes:
        """A manifest, index or config; of at most `descriptor.size` bytes."""
        ...

    def blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a layer, in pieces."""
        ...


def read_image(source: Source, platform: Platform) -> PublishedImage:
    """Follow a source's reference to the manifest and config of one platform."""
    media_type, content = source.top()
    for _ in range(MAX_NESTING):
        if media_type not in INDEX_TYPES:
            break
        chosen = choose_platform(parse(content, Index, f"the index of {source}"), platform, source)
        media_type, content = chosen.media_type, read_document(source, chosen)
    if media_type not in MANIFEST_TYPES:
        raise IntegrityError(f"{source} names something that is not an image: its media type is {media_type!r}.")
    manifest = parse(content, Manifest, f"the manifest of {source}")
    if manifest.schema_version != 2 or manifest.config.media_type not in CONFIG_TYPES:
        raise IntegrityError(
            f"{source} is not a container image: its config is of type {manifest.config.media_type!r}.",
            hint="It may be a chart, a signature or another artifact that registries also hold.",
        )
    config = parse(read_document(source, manifest.config), Config, f"the config of {source}")
    _check(source, manifest, config, platform)
    return PublishedImage(digest_of(content), manifest, config)


def _check(source: Source, manifest: Manifest, config: Config, platform: Platform) -> None:
    if len(manifest.layers) != len(config.rootfs.diff_ids):
        raise IntegrityError(
            f"{source} contradicts itself: its manifest has {len(manifest.layers)} layers, "
            f"its config {len(config.rootfs.diff_ids)}."
        )
    if len(manifest.layers) > MAX_LAYERS:
        raise IntegrityError(f"{source} has {len(manifest.layers)} layers; no engine takes more than {MAX_LAYERS}.")
    for layer in manifest.layers:
        if layer.media_type not in LAYER_TYPES:
            raise IntegrityError(
                f"{source} has a layer of the type {layer.media_type!r}, which cannot be built upon."
            )
    if (config.os, config.architecture) != (platform.os, platform.architecture):
        raise ProjectError(
            f"{source} is for {config.os}/{config.architecture}, not for {platform}.",
            hint="Choose a tag of the base that has this platform, or build for the base's platform.",
        )


def choose_platform(index: Index, platform: Platform, source: object) -> Descriptor:
    """The first manifest of an index that runs on the platform.

    An entry without a platform is taken only where it is alone; a CPU variant only where there is no choice, as
    engines do for arm64 and its variant v8.
    """
    candidates = [entry for entry in index.manifests if entry.media_type in (*MANIFEST_TYPES, *INDEX_TYPES)]
    wanted = (platform.os, platform.architecture)
    matching = [e for e in candidates if e.platform and (e.platform.os, e.platform.architecture) == wanted]
    for entry in sorted(matching, key=lambda e: bool(e.platform and e.platform.variant)):
        return entry
    if len(candidates) == 1 and (candidates[0].platform is None or candidates[0].media_type in INDEX_TYPES):
        return candidates[0]
    offered = sorted({f"{e.platform.os}/{e.platform.architecture}" for e in candidates if e.platform})
    has = ", ".join(name for name in offered if name != "unknown/unknown") or "no platform at all"
    raise ProjectError(f"{source} has no image for {platform}; it has {has}.", hint="Choose another base or tag.")


def read_document(source: Source, descriptor: Descriptor) -> bytes:
    """A manifest, index or config, verified."""
    if descriptor.size > MAX_DOCUMENT:
        raise IntegrityError(
            f"{source}: the document {descriptor.digest} claims {descriptor.size} bytes; "
            f"more than {MAX_DOCUMENT} are not read."
        )
    content = source.document(descriptor)
    if len(content) != descriptor.size or digest_of(content) != descriptor.digest:
        raise _mismatch(source, descriptor, len(content))
    return content


def pull_blob(source: Source, descriptor: Descriptor, cache: Cache, progress: Progress | None = None) -> None:
    """Bring a layer into the cache, verified while it streams; nothing to do where the cache has it."""
    if cache.has_blob(descriptor.digest, descriptor.size):
        return
    title = f"base layer {descriptor.digest.removeprefix('sha256:')[:12]}"
    with (
        (progress or Silent()).task(title, descriptor.size) as task,
        source.blob(descriptor) as chunks,
        cache.temporary_file() as path,
    ):
        hashed, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            for chunk in chunks:
                size += len(chunk)
                if size > descriptor.size:
                    raise _mismatch(source, descriptor, size)
                hashed.update(chunk)
                file.write(chunk)
                task.advance(len(chunk))
        if size != descriptor.size or "sha256:" + hashed.hexdigest() != descriptor.digest:
            raise _mismatch(source, descriptor, size)
        cache.keep_file(path, descriptor.digest)


def _mismatch(source: Source, descriptor: Descriptor, size: int) -> LightshipError:
    got = f"{size} bytes of another content" if size == descriptor.size else f"{size} bytes and counting"
    got = got if size >= descriptor.size else f"only {size} bytes"
    return IntegrityError(
        f"{source} gave the wrong bytes for {descriptor.digest}: expected {descriptor.size} bytes, got {got}.",
        hint="The source, or something between you and it, is damaged. Nothing was kept.",
    )


T = TypeVar("T")


def parse(content: bytes, kind: type[T], what: str) -> T:
    """Read JSON from outside into one of the types above; raises `IntegrityError` naming `what`."""
    try:
        document = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"Could not read {what}: {error}.") from error
    return document
