"""What `lightship diff` says: which packages, files and settings changed, and what a node must pull for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lightship.contents.inspection import Inspection, LayerSummary, OwnedFile
from lightship.contents.packages import Owner
from lightship.contents.settings import ContainerSettings
from lightship.layers.tar_stream import Kind


@dataclass(frozen=True)
class PackageChange:
    """A package in two images: its versions and bytes; None where an image lacks it."""

    kind: str
    name: str
    before: str | None
    after: str | None
    size_before: int
    size_after: int

    @property
    def change(self) -> str:
        return _change(self.before, self.after)


@dataclass(frozen=True)
class FileChange:
    """A file in two images; None where an image lacks it. Changed are those of other content, kind, mode or owner."""

    path: str
    before: OwnedFile | None
    after: OwnedFile | None

    @property
    def change(self) -> str:
        return _change(self.before, self.after)

    @property
    def owner(self) -> Owner:
        present = self.after or self.before
        assert present is not None
        return present.owner


@dataclass(frozen=True)
class SettingChange:
    """A setting in two images, as it is shown: values of variables are not."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Difference:
    """What leads from image A to image B. `pulled` are the layers of B that a node with A lacks."""

    before: Inspection
    after: Inspection
    packages: tuple[PackageChange, ...]
    files: tuple[FileChange, ...]
    settings: tuple[SettingChange, ...]
    pulled: tuple[LayerSummary, ...]

    @property
    def pull_size(self) -> int:
        """Bytes to pull: those layers as stored, and the config where it is another."""
        same = self.before.config_digest == self.after.config_digest
        return sum(layer.size for layer in self.pulled) + (0 if same else self.after.document_size)

    @property
    def is_empty(self) -> bool:
        return not (self.packages or self.files or self.settings or self.pulled)

    def to_dict(self, *, files: bool = False) -> dict[str, Any]:
        """The document of `--json`; sizes in bytes."""
        counts = {name: sum(each.change == name for each in self.files) for name in ("added", "removed", "changed")}
        document: dict[str, Any] = {
            "before": _image_dict(self.before),
            "after": _image_dict(self.after),
            "pull": {"bytes": self.pull_size, "layers": [vars(layer) for layer in self.pulled]},
            "packages": [{"change": each.change, **vars(each)} for each in self.packages],
            "settings": [vars(each) for each in self.settings],
            "file_counts": counts,
        }
        if files:
            document["files"] = [
                {
                    "change": each.change,
                    "path": f"/{each.path}",
                    "before": each.before.to_dict() if each.before else None,
                    "after": each.after.to_dict() if each.after else None,
                }
                for each in self.files
            ]
        return document


def compare(before: Inspection, after: Inspection) -> Difference:
    """What changed between two images.

    A node lacks a layer when no layer of A has the same content (diff ID), however it is compressed: engines look
    for the unpacked layer before they fetch a blob.
    """
    known = {layer.diff_id for layer in before.layers}
    wanted = {layer.diff_id: layer for layer in after.layers if layer.diff_id not in known}
    return Difference(
        before=before,
        after=after,
        packages=_package_changes(before, after),
        files=_file_changes(before.files, after.files),
        settings=_setting_changes(before, after),
        pulled=tuple(wanted.values()),
    )


def _change(before: object | None, after: object | None) -> str:
    if before is None:
        return "added"
    return "removed" if after is None else "changed"


def _image_dict(image: Inspection) -> dict[str, Any]:
    return {
        "image": image.name,
        "digest": image.digest or None,
        "image_id": image.config_digest,
        "platform": image.platform,
        "size": image.size,
        "unpacked_size": image.unpacked_size,
    }


def _package_changes(before: Inspection, after: Inspection) -> tuple[PackageChange, ...]:
    """Packages whose version changed, that came or went; the largest change of bytes first."""
    old, new = _packages(before), _packages(after)
    changes = []
    for key in old.keys() | new.keys():
        was, is_now = old.get(key), new.get(key)
        if was is None or is_now is None or was[0] != is_now[0]:
            changes.append(
                PackageChange(
                    kind=key[0],
                    name=key[1],
                    before=was[0] if was else None,
                    after=is_now[0] if is_now else None,
                    size_before=was[1] if was else 0,
                    size_after=is_now[1] if is_now else 0,
                )
            )
    return tuple(sorted(changes, key=lambda c: (-abs(c.size_after - c.size_before), c.kind, c.name)))


def _packages(image: Inspection) -> dict[tuple[str, str], tuple[str, int]]:
    """Kind and name of each package to its version and bytes; several versions of one are named together."""
    found: dict[tuple[str, str], tuple[str, int]] = {}
    for package in image.packages:
        owner = package.owner
        if owner.is_package:
            version, size = found.get((owner.kind, owner.name), ("", 0))
            both = ", ".join(sorted({*filter(None, version.split(", ")), owner.version}))
            found[owner.kind, owner.name] = (both, size + package.size)
    return found


def _file_changes(before: Iterable[OwnedFile], after: Iterable[OwnedFile]) -> tuple[FileChange, ...]:
    old = {file.path: file for file in before}
    new = {file.path: file for file in after}
    return tuple(
        FileChange(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if _seen(old.get(path)) != _seen(new.get(path))
    )


def _seen(file: OwnedFile | None) -> tuple[object, ...] | None:
    """What a container can tell of a file, but for its time."""
    if file is None:
        return None
    mode = 0 if file.kind is Kind.SYMLINK else file.mode
    return (file.kind, file.size, mode, file.uid, file.gid, file.digest, file.target)


def _setting_changes(before: Inspection, after: Inspection) -> tuple[SettingChange, ...]:
    old, new = _shown(before), _shown(after)
    changes = [
        SettingChange(name, old.get(name, ""), new.get(name, ""))
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name) != new.get(name)
    ]
    return (*changes, *_variable_changes(before.settings, after.settings))


def _shown(image: Inspection) -> dict[str, str]:
    """Each setting but variables as one text."""
    settings = image.settings
    shown = {
        "platform": image.platform,
        "user": settings.user,
        "entrypoint": " ".join(settings.entrypoint),
        "command": " ".join(settings.command),
        "ports": " ".join(settings.ports),
        "volumes": " ".join(settings.volumes),
        "working directory": settings.working_directory,
        "stop signal": settings.stop_signal,
        "health check": " ".join(settings.healthcheck),
    }
    return (
        shown
        | {f"label {name}": value for name, value in settings.labels}
        | {f"annotation {name}": value for name, value in image.annotations}
    )


def _variable_changes(before: ContainerSettings, after: ContainerSettings) -> tuple[SettingChange, ...]:
    old, new = dict(before.environment), dict(after.environment)
    return tuple(
        SettingChange(f"variable {name}", _presence(old, name), _presence(new, name, changed=name in old))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _presence(variables: Mapping[str, str], name: str, *, changed: bool = False) -> str:
    if name not in variables:
        return "unset"
    return "set to another value" if changed else "set"
