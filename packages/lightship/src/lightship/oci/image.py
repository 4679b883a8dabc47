"""Images: a config and a manifest made from an ordered list of layers. Same layers, same settings, same digest."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from lightship.errors import ProjectError
from lightship.layers import EPOCH, Layer

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
BASE_NAME = "org.opencontainers.image.base.name"  # image-spec annotations.md
BASE_DIGEST = "org.opencontainers.image.base.digest"

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # the kernel's names -> OCI's


@dataclass(frozen=True)
class Platform:
    """An OCI platform; `linux/amd64` for most."""

    architecture: str = "amd64"
    os: str = "linux"

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform that `os/architecture` names."""
        system, separator, architecture = text.partition("/")
        if not separator or not system or not architecture:
            raise ProjectError(f"{text!r} is no platform.", hint="Write OS/ARCH, such as linux/arm64.")
        return cls(architecture, system)

    @classmethod
    def of_this_machine(cls) -> Platform:
        """What containers of this machine's kernel are (or of the virtual machine's that runs them)."""
        machine = platform.machine()
        return cls(_MACHINES.get(machine, machine))


@dataclass(frozen=True)
class Healthcheck:
    """Docker's health check. Honoured by Docker, ignored by containerd and Kubernetes. Times in seconds."""

    command: tuple[str, ...]
    interval: float = 10
    timeout: float = 3
    start_period: float = 60
    retries: int = 3


@dataclass(frozen=True)
class Settings:
    """What a container of the image runs, and as whom (the `config` object of the OCI image config)."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    user: str = "65532:65532"
    working_directory: str = "/app"
    ports: tuple[int, ...] = (8080,)
    labels: tuple[tuple[str, str], ...] = ()
    healthcheck: Healthcheck | None = None
    stop_signal: str = "SIGTERM"


@dataclass(frozen=True)
class Image:
    """An image, whole: layers (base first), settings, platform and annotations of the manifest."""

    layers: tuple[Layer, ...]
    settings: Settings
    platform: Platform = Platform()
    annotations: tuple[tuple[str, str], ...] = ()
    created: int = EPOCH  # seconds since 1970; SOURCE_DATE_EPOCH where the user sets it

    @cached_property
    def config(self) -> bytes:
        """The config as JSON bytes; its digest is Docker's image ID."""
        created = datetime.fromtimestamp(self.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        settings = self.settings
        container: dict[str, Any] = {
            "User": settings.user,
            "ExposedPorts": {f"{port}/tcp": {} for port in settings.ports},
            "Env": [f"{name}={value}" for name, value in settings.environment],
            "Entrypoint": list(settings.entrypoint),
            "WorkingDir": settings.working_directory,
            "Labels": dict(settings.labels),
            "StopSignal": settings.stop_signal,
        }
        if settings.command:
            container["Cmd"] = list(settings.command)
        if check := settings.healthcheck:
            container["Healthcheck"] = {
                "Test": ["CMD", *check.command],
                "Interval": _nanoseconds(check.interval),
                "Timeout": _nanoseconds(check.timeout),
                "StartPeriod": _nanoseconds(check.start_period),
                "Retries": check.retries,
            }
        return canonical_json(
            {
                "architecture": self.platform.architecture,
                "os": self.platform.os,
                "created": created,
                "config": container,
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
                "history": [
                    {"created": created, "created_by": f"lightship: {layer.kind}", "comment": layer.title}
                    for layer in self.layers
                ],
            }
        )

    @cached_property
    def manifest(self) -> bytes:
        """The manifest as JSON bytes; its digest is the image's digest."""
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": descriptor(CONFIG_TYPE, self.config),
                "layers": [_layer_descriptor(layer) for layer in self.layers],
                "annotations": dict(self.annotations),
            }
        )

    @property
    def documents(self) -> tuple[tuple[str, bytes], ...]:
        """Manifest and config, with their digests."""
        return ((self.digest, self.manifest), (self.config_digest, self.config))

    @property
    def images(self) -> tuple[Image, ...]:
        """Itself; for what takes an image as well as an index."""
        return (self,)

    @property
    def media_type(self) -> str:
        return MANIFEST_TYPE

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def config_digest(self) -> str:
        """Docker's and Podman's image ID. How layers are compressed does not matter; an eStargz table is a file."""
        return digest_of(self.config)

    @property
    def size(self) -> int:
        """Bytes to pull: the layers as stored, the config and the manifest."""
        return sum(layer.size for layer in self.layers) + len(self.config) + len(self.manifest)

    @property
    def unpacked_size(self) -> int:
        """Bytes of the plain layers."""
        return sum(layer.unpacked_size for layer in self.layers)


@dataclass(frozen=True)
class ImageIndex:
    """The same image for several platforms, under one digest (image-spec image-index.md)."""

    images: tuple[Image, ...]

    @cached_property
    def manifest(self) -> bytes:
        """The index as JSON bytes."""
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": INDEX_TYPE,
                "manifests": [
                    descriptor(MANIFEST_TYPE, image.manifest) | {"platform": platform_field(image.platform)}
                    for image in self.images
                ],
                "annotations": dict(self.annotations),
            }
        )

    @property
    def annotations(self) -> tuple[tuple[str, str], ...]:
        """What is true of all images."""
        common = set.intersection(*(set(image.annotations) for image in self.images))
        return tuple(sorted(common))

    @property
    def documents(self) -> tuple[tuple[str, bytes], ...]:
        """The index, and every image's manifest and config, with their digests."""
        return ((self.digest, self.manifest), *(each for image in self.images for each in image.documents))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer once; platforms share those without machine code."""
        return tuple({layer.digest: layer for image in self.images for layer in image.layers}.values())

    @property
    def media_type(self) -> str:
        return INDEX_TYPE

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


Built = Image | ImageIndex


def image_for(found: Built, platform: Platform) -> Image:
    """The image for a platform; the only one, where it is one."""
    for image in found.images:
        if image.platform == platform or isinstance(found, Image):
            return image
    offered = ", ".join(str(image.platform) for image in found.images)
    raise ProjectError(
        f"There is no image for {platform}; there are images for {offered}.",
        hint="Build it with that platform among [image] platforms, or run it on such a machine.",
    )


def platform_field(platform: Platform) -> dict[str, str]:
    """The `platform` of a descriptor in an index."""
    return {"os": platform.os, "architecture": platform.architecture}


def _layer_descriptor(layer: Layer) -> dict[str, Any]:
    fields = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
    return fields | ({"annotations": dict(layer.annotations)} if layer.annotations else {})


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    """The OCI descriptor of small content."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def digest_of(content: bytes) -> str:
    """`sha256:<hex>` of small content."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no white space, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
