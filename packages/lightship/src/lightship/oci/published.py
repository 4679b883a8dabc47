"""Images that somebody else published: their manifests and configs, read with bounds, and where they come from.

A `Source` (an OCI layout, a registry) hands out documents and layers; the functions here walk from an index to one
platform's manifest and config, and believe nothing that does not match its digest and size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import msgspec

from lightship.errors import IntegrityError, ProjectError
from lightship.layers import Compression
from lightship.oci.image import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, Platform, digest_of
from lightship.session import Session

if TYPE_CHECKING:
    from lightship.download import Download

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
    annotations: dict[str, str] | None = None


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

    manifest: Manifest
    config: Config
    documents: tuple[bytes, bytes]  # the manifest and the config as they were published

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return digest_of(self.documents[0])

    @property
    def layers(self) -> tuple[tuple[Descriptor, str], ...]:
        """Each layer's descriptor with its diff ID, base first."""
        return tuple(zip(self.manifest.layers, self.config.rootfs.diff_ids, strict=True))


class Source(Protocol):
    """Where a published image comes from."""

    def __str__(self) -> str:
        """Its name, for messages."""
        ...

    def top(self) -> bytes:
        """The manifest or index that the source's reference names, verified where the reference has a digest."""
        ...

    def document(self, descriptor: Descriptor) -> bytes:
        """A manifest, index or config, of little more than `descriptor.size` bytes; the caller verifies it."""
        ...

    def pull(self, layers: Sequence[Descriptor], session: Session) -> None:
        """Bring layers into the cache, verified while they stream; those that it has are not touched."""
        ...


def read_image(source: Source, platform: Platform) -> PublishedImage:
    """Follow a source's reference to the manifest and config of one platform."""
    content = source.top()
    media_type = document_type(content, source)
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
    config_content = read_document(source, manifest.config)
    config = parse(config_content, Config, f"the config of {source}")
    _check(source, manifest, config, platform)
    return PublishedImage(manifest, config, (content, config_content))


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
        raise IntegrityError(
            f"{source} gave the wrong bytes for {descriptor.digest}: they do not hash to it, "
            f"or are not the {descriptor.size} bytes that were announced.",
            hint="The source, or something between you and it, is damaged. Nothing was kept.",
        )
    return content


def document_type(content: bytes, source: object) -> str:
    """Whether a document is a manifest or an index.

    `mediaType` is optional in both. Without it the document may have the fields of one of them only, or two readers
    could see two different images (the distribution specification's CVE-2021-41190).
    """
    kind = parse(content, _Kind, f"the manifest of {source}")
    is_index, is_manifest = kind.manifests is not None, kind.config is not None or kind.layers is not None
    if is_index == is_manifest:
        raise IntegrityError(f"{source} is neither an image nor an index of images.")
    return kind.media_type or (INDEX_TYPE if is_index else MANIFEST_TYPE)


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str | None = None
    manifests: object = None
    config: object = None
    layers: object = None


def layer_download(layer: Descriptor, url: str) -> Download:
    """How a layer is fetched from a URL or a path."""
    from lightship.download import Download

    name = layer.digest.removeprefix("sha256:")
    return Download(urls=(url,), sha256=name, size=layer.size, title=f"the base's layer {name[:12]}")


T = TypeVar("T")


def parse(content: bytes, kind: type[T], what: str) -> T:
    """Read JSON from outside into one of the types above; raises `IntegrityError` naming `what`."""
    try:
        document = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"Could not read {what}: {error}.") from error
    return document
