"""An image that was built before, read back from its layout as the same value that was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from lightship.errors import ProjectError
from lightship.layers import Layer, plain_tar
from lightship.oci.image import Healthcheck, Image, Platform, Settings
from lightship.oci.layout import open_layout
from lightship.oci.published import PublishedImage, parse, read_document, read_image
from lightship.session import Session

_CREATED_BY = "lightship: "


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


def read_layout_image(directory: Path, session: Session, platform: Platform | None = None) -> Image:
    """The image in a layout that Lightship wrote, its layers brought into the cache.

    Raises: `ProjectError` for an image that was not built by Lightship: how to run it could only be guessed.
    """
    source = open_layout(directory)
    published = read_image(source, platform or Platform())
    content = read_document(source, published.manifest.config)
    config = parse(content, _Config, f"the config of {source}")
    source.pull(published.manifest.layers, session)
    image = _image(published, config, session)
    if image.config != content:
        raise ProjectError(
            f"{source} was not built by this version of Lightship.",
            hint="Run it with Docker or Podman, or build it again.",
        )
    return image


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
    key = layer.diff_id.removeprefix("sha256:")
    if record := session.cache.read_record("unpacked-sizes", key):
        return int(record["size"])
    with plain_tar(layer, session.cache) as pieces:
        size = sum(len(piece) for piece in pieces)
    session.cache.write_record("unpacked-sizes", key, {"size": size})
    return size
