"""What a config says about the container, whoever wrote it, and what its history calls each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from lightship.oci.image import Platform
from lightship.oci.published import parse

_CREATED_BY = "lightship: "
_SHELL = ("/bin/sh -c #(nop) ", "/bin/sh -c ")  # what Docker's classic builder writes before each line
_LONGEST_TITLE = 120  # characters


class _Container(msgspec.Struct, frozen=True, rename="pascal"):
    user: str | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    exposed_ports: dict[str, object] | None = None
    labels: dict[str, str] | None = None
    working_dir: str | None = None
    stop_signal: str | None = None
    healthcheck: dict[str, Any] | None = None
    volumes: dict[str, object] | None = None


class _History(msgspec.Struct, frozen=True):
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class _RootFilesystem(msgspec.Struct, frozen=True):
    diff_ids: list[str]


class _Config(msgspec.Struct, frozen=True):
    architecture: str
    os: str
    rootfs: _RootFilesystem
    config: _Container | None = None
    history: list[_History] | None = None


@dataclass(frozen=True)
class ContainerSettings:
    """How a container of the image runs. Values of variables may be secrets: documents show their names only."""

    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    working_directory: str
    stop_signal: str
    healthcheck: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "entrypoint": list(self.entrypoint),
            "command": list(self.command),
            "environment": [name for name, _ in self.environment],
            "ports": list(self.ports),
            "volumes": list(self.volumes),
            "labels": dict(self.labels),
            "working_directory": self.working_directory,
            "stop_signal": self.stop_signal,
            "healthcheck": list(self.healthcheck),
        }


@dataclass(frozen=True)
class ImageConfig:
    """A config, read: settings, platform, and for each layer its diff ID, kind and title."""

    settings: ContainerSettings
    platform: Platform
    diff_ids: tuple[str, ...]
    titles: tuple[tuple[str, str], ...]


def read_config(content: bytes, what: str) -> ImageConfig:
    """Read a config; raises `IntegrityError` naming `what`."""
    config = parse(content, _Config, what)
    container = config.config or _Container()
    test = (container.healthcheck or {}).get("Test") or []
    return ImageConfig(
        settings=ContainerSettings(
            user=container.user or "",
            entrypoint=tuple(container.entrypoint or ()),
            command=tuple(container.cmd or ()),
            environment=tuple(sorted((name, value) for name, _, value in _split(container.env))),
            ports=tuple(sorted(container.exposed_ports or ())),
            volumes=tuple(sorted(container.volumes or ())),
            labels=tuple(sorted((container.labels or {}).items())),
            working_directory=container.working_dir or "/",
            stop_signal=container.stop_signal or "",
            healthcheck=tuple(map(str, test)) if isinstance(test, list) else (),
        ),
        platform=Platform(config.architecture, config.os),
        diff_ids=tuple(config.rootfs.diff_ids),
        titles=_titles(config),
    )


def _split(variables: list[str] | None) -> list[tuple[str, str, str]]:
    return [variable.partition("=") for variable in variables or ()]


def _titles(config: _Config) -> tuple[tuple[str, str], ...]:
    """Kind and title of each layer: ours say both, others' history says the command that made it."""
    count = len(config.rootfs.diff_ids)
    lines = [line for line in config.history or () if not line.empty_layer]
    if len(lines) != count:
        return tuple(("layer", f"layer {number}") for number in range(1, count + 1))
    return tuple(_title(line, number) for number, line in enumerate(lines, 1))


def _title(line: _History, number: int) -> tuple[str, str]:
    made_by = line.created_by or ""
    if made_by.startswith(_CREATED_BY):
        return made_by.removeprefix(_CREATED_BY), line.comment or ""
    for prefix in _SHELL:
        made_by = made_by.removeprefix(prefix)
    return "layer", " ".join(made_by.split())[:_LONGEST_TITLE] or f"layer {number}"
