"""What was built before, read back from its layout as the same value that was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from lightship.errors import ProjectError
from lightship.layers import Layer, plain_tar
from lightship.oci.image import BASE_DIGEST, BASE_NAME, Built, Healthcheck, Image, ImageIndex, Platform, Settings
from lightship.oci.layout import LayoutSource, open_layout
from lightship.oci.name import Reference
from lightship.oci.published import (
    INDEX_TYPES,
    Index,
    Manifest,
    PublishedImage,
    document_type,
    parse,
    read_document,
    read_image,
)
from lightship.session import Session

UNPACKED_SIZES = "unpacked-sizes"  # records in the cache, by the layer's diff ID
_CREATED_BY = "lightship: "
_B = TypeVar("_B", Image, ImageIndex)


class _Health(msgspec.Struct, frozen=True, rename="pascal"):
    test: Annotated[list[str], msgspec.Meta(min_length=1)]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0


class _Container(msgspec.Struct, frozen=True, rename="pascal"):
    entrypoint: list[str] = []
    cmd: list[str] = []
    env: list[str] = []
    user: str = ""
    working_dir: str = "/"
    exposed_ports: dict[str, dict[str, object]] = {}
    labels: dict[str, str] = {}
    healthcheck: _Health | None = None
    stop_signal: str = "SIGTERM"


class _History(msgspec.Struct, frozen=True):
    created_by: str = ""
    comment: str = ""


class _Config(msgspec.Struct, frozen=True):
    created: datetime
    architecture: str
    os: str
    config: _Container
    history: list[_History]


def read_layout(directory: Path, session: Session) -> Built:
    """What is in a layout that Lightship wrote, an image or the index of several, its layers brought into the cache.

    Raises: `ProjectError` for an image that was not built by Lightship: how to run it could only be guessed.
    """
    source = open_layout(directory)
    content = source.top()
    if document_type(content, source) in INDEX_TYPES:
        index = parse(content, Index, f"the index of {source}")
        platforms = [
            Platform(each.platform.architecture, each.platform.os) for each in index.manifests if each.platform
        ]
        found = ImageIndex(tuple(_read(source, platform, session) for platform in platforms))
        return _checked(found, content, source)
    return _read(source, _only_platform(content, source), session)


def _only_platform(content: bytes, source: LayoutSource) -> Platform:
    manifest = parse(content, Manifest, f"the manifest of {source}")
    config = parse(read_document(source, manifest.config), _Config, f"the config of {source}")
    return Platform(config.architecture, config.os)


def _read(source: LayoutSource, platform: Platform, session: Session) -> Image:
    published = read_image(source, platform)
    content = read_document(source, published.manifest.config)
    config = parse(content, _Config, f"the config of {source}")
    _bring(source, published, config, session)
    return _checked(_image(published, config, session), content, source)


def _bring(source: LayoutSource, published: PublishedImage, config: _Config, session: Session) -> None:
    """The layers into the cache: from the layout, or from the base's registry, where a push has left those of it."""
    absent = [
        each
        for each, line in zip(published.manifest.layers, config.history, strict=False)
        if line.created_by == f"{_CREATED_BY}base"
        and not session.cache.has_blob(each.digest, each.size)
        and not source.path(each).is_file()
    ]
    annotations = published.manifest.annotations or {}
    if absent and BASE_DIGEST in annotations and not annotations.get(BASE_NAME, "oci:").startswith("oci:"):
        from lightship.oci.mirrored import registry_source  # brings HTTP

        registry_source(Reference.parse(annotations[BASE_NAME]), session).pull(absent, session)
    source.pull(published.manifest.layers, session)


def _checked(found: _B, content: bytes, source: LayoutSource) -> _B:
    """What was read, if it is written again as the bytes that were read: an image's config, or an index."""
    written = found.config if isinstance(found, Image) else found.manifest
    if written != content:
        raise ProjectError(
            f"{source} was not built by this version of Lightship.",
            hint="Run it with Docker or Podman, or build it again.",
        )
    return found


def _image(published: PublishedImage, config: _Config, session: Session) -> Image:
    container, check = config.config, config.config.healthcheck
    if len(config.history) != len(published.layers):
        raise ProjectError("The image's history does not fit its layers: it was not built by Lightship.")
    layers = [
        Layer(
            kind=line.created_by.removeprefix(_CREATED_BY),
            title=line.comment,
            digest=descriptor.digest,
            diff_id=diff_id,
            size=descriptor.size,
            unpacked_size=0,
            media_type=descriptor.media_type,
            from_cache=True,
            annotations=tuple(sorted((descriptor.annotations or {}).items())),
        )
        for (descriptor, diff_id), line in zip(published.layers, config.history, strict=True)
    ]
    return Image(
        layers=tuple(replace(layer, unpacked_size=unpacked_size(layer, session)) for layer in layers),
        platform=Platform(config.architecture, config.os),
        annotations=tuple(sorted((published.manifest.annotations or {}).items())),
        settings=Settings(
            entrypoint=tuple(container.entrypoint),
            command=tuple(container.cmd),
            environment=tuple((name, value) for name, _, value in (each.partition("=") for each in container.env)),
            user=container.user,
            working_directory=container.working_dir,
            ports=tuple(int(port.partition("/")[0]) for port in container.exposed_ports),
            labels=tuple(container.labels.items()),
            stop_signal=container.stop_signal,
            healthcheck=Healthcheck(
                tuple(check.test[1:]),
                check.interval / 1e9,
                check.timeout / 1e9,
                check.start_period / 1e9,
                check.retries,
            )
            if check
            else None,
        ),
        created=int(config.created.timestamp()),
    )


def unpacked_size(layer: Layer, session: Session) -> int:
    """Bytes of the plain tar; a manifest does not tell, so a compressed layer is passed through once."""
    if (known := _recorded_size(layer, session)) is not None:
        return known
    with plain_tar(layer, session.cache) as pieces:
        size = sum(len(piece) for piece in pieces)
    session.cache.write_record(UNPACKED_SIZES, layer.diff_id.removeprefix("sha256:"), {"size": size})
    return size


def known_unpacked_size(layer: Layer, session: Session) -> int | None:
    """The same without fetching anything; None for a compressed layer that has never been here."""
    if session.cache.has_blob(layer.digest, layer.size):
        return unpacked_size(layer, session)
    return _recorded_size(layer, session)


def _recorded_size(layer: Layer, session: Session) -> int | None:
    if layer.digest == layer.diff_id:
        return layer.size
    record = session.cache.read_record(UNPACKED_SIZES, layer.diff_id.removeprefix("sha256:"))
    return int(record["size"]) if record else None
