"""Images: a config and a manifest made from an ordered list of layers. Same layers, same settings, same digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from lightship.layers import EPOCH, Layer

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Platform:
    """An OCI platform; `linux/amd64` for most."""

    architecture: str = "amd64"
    os: str = "linux"

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


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
                "layers": [
                    {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
                    for layer in self.layers
                ],
                "annotations": dict(self.annotations),
            }
        )

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def config_digest(self) -> str:
        """Docker's and Podman's image ID. It does not depend on how the layers are compressed."""
        return digest_of(self.config)

    @property
    def size(self) -> int:
        """Bytes to pull: the layers as stored, the config and the manifest."""
        return sum(layer.size for layer in self.layers) + len(self.config) + len(self.manifest)

    @property
    def unpacked_size(self) -> int:
        """Bytes of the plain layers."""
        return sum(layer.unpacked_size for layer in self.layers)


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
