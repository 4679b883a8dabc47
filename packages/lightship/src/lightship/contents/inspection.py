"""What `lightship inspect` says of an image: layers, packages, wasted bytes, settings, and files to look at twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lightship.contents.file_tree import Buried, FileTree, Placed
from lightship.contents.opening import OpenedImage
from lightship.contents.packages import OWN_KINDS, RUNTIME, Owner, Packages
from lightship.contents.settings import ContainerSettings
from lightship.layers.tar_stream import Kind

WORTH_SHARING = 64_000  # bytes; equal files below it (licences, empty modules) are not worth a link
SET_ID = 0o6000
WRITABLE_BY_ALL = 0o002
STICKY = 0o1000  # with it, as in /tmp, nobody can replace what another wrote


@dataclass(frozen=True)
class LayerSummary:
    """A layer, in bytes as stored and as a plain tar; `files` counts everything but directories."""

    kind: str
    title: str
    digest: str
    diff_id: str
    size: int
    unpacked_size: int
    files: int


@dataclass(frozen=True)
class OwnedFile:
    """A file that a container sees, its layer from 0, and who brought it."""

    path: str
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    digest: bytes
    target: str
    layer: int
    owner: Owner

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": f"/{self.path}",
            "kind": self.kind.name.lower(),
            "size": self.size,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "gid": self.gid,
            "sha256": self.digest.hex() or None,
            "target": self.target or None,
            "layer": self.layer,
            "owner": owner_dict(self.owner),
        }


@dataclass(frozen=True)
class PackageSummary:
    """What one owner brought, and how many bytes a container sees of it; bytecode counts to its package."""

    owner: Owner
    files: int
    size: int


@dataclass(frozen=True)
class Duplicate:
    """Files of equal content, `size` bytes each."""

    size: int
    paths: tuple[str, ...]

    @property
    def wasted(self) -> int:
        return self.size * (len(self.paths) - 1)


@dataclass(frozen=True)
class Waste:
    """Bytes of files that are stored and serve nobody. `total` are the bytes of all files of all layers."""

    total: int
    buried: tuple[Buried, ...]
    duplicates: tuple[Duplicate, ...]

    @property
    def buried_size(self) -> int:
        return sum(each.size for each in self.buried)

    @property
    def duplicate_size(self) -> int:
        return sum(each.wasted for each in self.duplicates)

    @property
    def efficiency(self) -> float:
        """The share of the layers' file bytes that a container can see and that are there once only, 0 to 1."""
        return 1 - (self.buried_size + self.duplicate_size) / self.total if self.total else 1.0


@dataclass(frozen=True)
class Inspection:
    """An image, seen through. `files` are sorted by path, `packages` by bytes."""

    name: str
    digest: str
    config_digest: str
    platform: str
    settings: ContainerSettings
    annotations: tuple[tuple[str, str], ...]
    layers: tuple[LayerSummary, ...]
    document_size: int
    files: tuple[OwnedFile, ...]
    packages: tuple[PackageSummary, ...]
    waste: Waste

    @property
    def size(self) -> int:
        """Bytes to pull, the layers alone."""
        return sum(layer.size for layer in self.layers)

    @property
    def unpacked_size(self) -> int:
        return sum(layer.unpacked_size for layer in self.layers)

    @property
    def set_id(self) -> tuple[OwnedFile, ...]:
        """Files that run as their owner or group, whoever starts them."""
        return tuple(file for file in self.files if file.kind is Kind.FILE and file.mode & SET_ID)

    @property
    def world_writable(self) -> tuple[OwnedFile, ...]:
        """Files and directories that everybody may change; directories with the sticky bit are as /tmp must be."""
        return tuple(
            file
            for file in self.files
            if file.mode & WRITABLE_BY_ALL
            and (file.kind is Kind.FILE or (file.kind is Kind.DIRECTORY and not file.mode & STICKY))
        )

    @property
    def not_of_root(self) -> tuple[OwnedFile, ...]:
        """What belongs to another user or group than root."""
        return tuple(file for file in self.files if file.uid or file.gid)

    def to_dict(self, *, files: bool = False) -> dict[str, Any]:
        """The document of `--json`; sizes in bytes."""
        document: dict[str, Any] = {
            "image": self.name,
            "digest": self.digest or None,
            "image_id": self.config_digest,
            "platform": self.platform,
            "size": self.size,
            "unpacked_size": self.unpacked_size,
            "layers": [vars(layer) for layer in self.layers],
            "packages": [
                {**owner_dict(each.owner), "files": each.files, "size": each.size} for each in self.packages
            ],
            "waste": {
                "efficiency": round(self.waste.efficiency, 6),
                "file_bytes": self.waste.total,
                "buried_bytes": self.waste.buried_size,
                "duplicate_bytes": self.waste.duplicate_size,
                "buried": [
                    {"path": f"/{b.path}", "size": b.size, "layer": b.layer, "by_layer": b.by_layer, "why": b.why}
                    for b in self.waste.buried
                ],
                "duplicates": [
                    {"size": each.size, "paths": [f"/{path}" for path in each.paths]}
                    for each in self.waste.duplicates
                ],
            },
            "settings": self.settings.to_dict(),
            "annotations": dict(self.annotations),
            "setuid": [file.to_dict() for file in self.set_id],
            "world_writable": [file.to_dict() for file in self.world_writable],
            "not_of_root": [file.to_dict() for file in self.not_of_root],
        }
        if files:
            document["files"] = [file.to_dict() for file in self.files]
        return document


def owner_dict(owner: Owner) -> dict[str, Any]:
    return {"kind": owner.kind, "name": owner.name, "version": owner.version or None}


def inspect_image(image: OpenedImage) -> Inspection:
    """Lay the layers of an image over each other and say what a container sees."""
    tree = FileTree()
    for number, layer in enumerate(image.layers):
        tree.lay(layer.scan, number)
    packages = _packages(image, tree)
    layer_owners = [_layer_owner(layer.kind, layer.title, number) for number, layer in enumerate(image.layers, 1)]
    files = tuple(
        _owned(placed, _owner(packages.owner(placed.file.path), layer_owners[placed.layer]))
        for placed in tree.files()
    )
    stored = sum(file.size for layer in image.layers for file in layer.scan.files)
    return Inspection(
        name=image.name,
        digest=image.digest,
        config_digest=image.config_digest,
        platform=str(image.platform),
        settings=image.settings,
        annotations=image.annotations,
        layers=tuple(
            LayerSummary(
                kind=layer.kind,
                title=layer.title,
                digest=layer.digest,
                diff_id=layer.diff_id,
                size=layer.scan.size,
                unpacked_size=layer.scan.unpacked_size,
                files=sum(file.kind is not Kind.DIRECTORY for file in layer.scan.files),
            )
            for layer in image.layers
        ),
        document_size=image.document_size,
        files=files,
        packages=_summaries(files),
        waste=Waste(stored, tuple(sorted(tree.buried, key=lambda each: -each.size)), _duplicates(files)),
    )


def _packages(image: OpenedImage, tree: FileTree) -> Packages:
    """The records that are still there: one that a later layer removed or replaced says nothing any more."""
    records = [
        record
        for number, layer in enumerate(image.layers)
        for path, record in layer.scan.metadata.items()
        if (placed := tree.get(path)) and placed.layer == number
    ]
    return Packages(records, tree.root_links())


def _layer_owner(kind: str, title: str, number: int) -> Owner:
    if kind == RUNTIME:
        name, _, version = title.partition(" ")
        return Owner(RUNTIME, name, version)
    return Owner(kind, title) if kind in OWN_KINDS else Owner("layer", f"{number}: {title}" if title else f"{number}")


def _owner(package: Owner | None, layer: Owner) -> Owner:
    """The package, or else the layer; our runtime is told from the user's distributions, though it is one too."""
    return layer if package is None or layer.kind == RUNTIME else package


def _owned(placed: Placed, owner: Owner) -> OwnedFile:
    file = placed.file
    return OwnedFile(
        file.path,
        file.kind,
        file.size,
        file.mode,
        file.uid,
        file.gid,
        file.digest,
        file.target,
        placed.layer,
        owner,
    )


def _summaries(files: Iterable[OwnedFile]) -> tuple[PackageSummary, ...]:
    counts: dict[Owner, list[int]] = defaultdict(lambda: [0, 0])
    for file in files:
        if file.kind is not Kind.DIRECTORY:
            count = counts[file.owner]
            count[0] += 1
            count[1] += file.size
    summaries = [PackageSummary(owner, number, size) for owner, (number, size) in counts.items()]
    return tuple(sorted(summaries, key=lambda each: (-each.size, each.owner)))


def _duplicates(files: Sequence[OwnedFile]) -> tuple[Duplicate, ...]:
    alike: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for file in files:
        if file.kind is Kind.FILE and file.size > WORTH_SHARING:
            alike[file.size, file.digest].append(file.path)
    found = [Duplicate(size, tuple(paths)) for (size, _), paths in alike.items() if len(paths) > 1]
    return tuple(sorted(found, key=lambda each: -each.wasted))
