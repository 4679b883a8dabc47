"""Finding an image by the name that a user wrote, and reading its layers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from lightship.cache import CHUNK
from lightship.contents.archive_scan import ArchiveScan, scan_archive
from lightship.contents.layer_scan import Budget, LayerScan, scan_layer
from lightship.contents.settings import ContainerSettings, ImageConfig, read_config
from lightship.errors import EngineError, IntegrityError, ProjectError
from lightship.oci.image import Platform, digest_of
from lightship.oci.layout import LayoutSource, open_layout
from lightship.oci.name import Reference
from lightship.oci.published import (
    INDEX_TYPES,
    Descriptor,
    Index,
    Manifest,
    PublishedImage,
    Source,
    document_type,
    parse,
    read_document,
    read_image,
)
from lightship.run.client import Client
from lightship.session import Session

DOCKER_PREFIX = "docker:"
LAYOUT_PREFIX = "oci:"
FORMS = "a name in the cache, oci:DIR, an archive file, docker:NAME, or REGISTRY/NAME:TAG"


@dataclass(frozen=True)
class OpenedLayer:
    """A layer with what is in it. `digest` and `size` are of the stored bytes."""

    kind: str
    title: str
    digest: str
    diff_id: str
    scan: LayerScan


@dataclass(frozen=True)
class OpenedImage:
    """An image whose layers were read.

    `digest` is the manifest's, and empty for archives without one; `config_digest` is Docker's image ID;
    `document_size` are the bytes of manifest and config.
    """

    name: str
    digest: str
    config_digest: str
    platform: Platform
    settings: ContainerSettings
    annotations: tuple[tuple[str, str], ...]
    layers: tuple[OpenedLayer, ...]
    document_size: int


def open_image(name: str, session: Session, platform: Platform | None = None) -> OpenedImage:
    """Find an image and read its layers once.

    Args:
        platform: Which one of an index; without it the only one, or else linux/amd64.

    Raises: `ProjectError` where there is no such image; `IntegrityError` where it is damaged or beyond all bounds;
        `EngineError` where Docker refuses; `NetworkError`.
    """
    if name.startswith(DOCKER_PREFIX):
        return _from_docker(name, session, platform)
    if not name.startswith(LAYOUT_PREFIX):
        path = Path(name)
        if path.is_file():
            return _from_archive_file(path, session, platform)
        if (path / "index.json").is_file():
            return _from_source(open_layout(path), name, session, platform)
    return _from_source(_source(name, session), name, session, platform)


def _source(name: str, session: Session) -> Source:
    if name.startswith(LAYOUT_PREFIX):
        from lightship.bases.image.lock import image_source

        return image_source(name, session)
    cached = session.cache.image_path(name if ":" in name.rpartition("/")[2] else f"{name}:latest")
    if cached.is_dir() and "@" not in name:
        return open_layout(cached)
    try:
        reference = Reference.parse(name)
    except ProjectError as error:
        raise ProjectError(f"There is no image {name!r}.", hint=f"Give {FORMS}.") from error
    if "/" not in name:  # a slip of the pen must not become a question to a registry
        raise ProjectError(
            f"There is no image {name} in the cache, and no such file.",
            hint=f"Build it with `lightship build`, or give {FORMS}. The public image is {reference}.",
        )
    from lightship.oci.mirrored import registry_source

    return registry_source(reference, session)


# Manifests with blobs: layouts and registries


def _from_source(source: Source, name: str, session: Session, platform: Platform | None) -> OpenedImage:
    image = read_image(source, platform or _platform_of(source))
    descriptors = image.manifest.layers
    if not isinstance(source, LayoutSource):
        source.pull(descriptors, session)
    budget = Budget()
    total = sum(layer.size for layer in descriptors)
    with session.progress.task(f"reading {len(descriptors)} layers of {name}", total) as task:

        def scan(descriptor: Descriptor) -> LayerScan:
            what = f"The layer {descriptor.digest[:19]} of {name}"
            with _stored(source, descriptor, session) as file:
                return scan_layer(file, what, budget, task.advance)

        scans = _side_by_side(scan, descriptors, session.jobs)
    return _opened(name, source, image, scans)


def _platform_of(source: Source) -> Platform:
    """The platform of an image that is the only one; linux/amd64 where there are several."""
    content = source.top()
    if document_type(content, source) in INDEX_TYPES:
        index = parse(content, Index, f"the index of {source}")
        named = [entry.platform for entry in index.manifests if entry.platform]
        offered = {(each.architecture, each.os) for each in named} - {("unknown", "unknown")}
        return Platform(*offered.pop()) if len(offered) == 1 else Platform()
    manifest = parse(content, Manifest, f"the manifest of {source}")
    with suppress(IntegrityError):  # `read_image` says what is wrong with it
        return read_config(read_document(source, manifest.config), f"the config of {source}").platform
    return Platform()


def _stored(source: Source, descriptor: Descriptor, session: Session) -> BinaryIO:
    try:
        if isinstance(source, LayoutSource) and (path := source.path(descriptor)).exists():
            return path.open("rb")
        return session.cache.open_blob(descriptor.digest)  # the cache's own layouts leave to it what it assembles
    except OSError as error:
        raise IntegrityError(
            f"{source} lacks the layer {descriptor.digest} ({error.strerror}).", hint="Build or copy it again."
        ) from error


def _side_by_side(
    scan: Callable[[Descriptor], LayerScan], descriptors: Sequence[Descriptor], jobs: int
) -> dict[str, LayerScan]:
    """Read each distinct layer once, the largest first; hashing and unpacking leave the interpreter's lock alone."""
    from concurrent.futures import ThreadPoolExecutor

    distinct = sorted({layer.digest: layer for layer in descriptors}.values(), key=lambda layer: -layer.size)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = {layer.digest: pool.submit(scan, layer) for layer in distinct}
        try:
            return {digest: future.result() for digest, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _opened(name: str, source: Source, image: PublishedImage, scans: dict[str, LayerScan]) -> OpenedImage:
    for descriptor in image.manifest.layers:
        found = scans[descriptor.digest]
        if (found.digest, found.size) != (descriptor.digest, descriptor.size):
            raise IntegrityError(
                f"{name}: the bytes of the layer {descriptor.digest} do not hash to it.",
                hint="Build, copy or pull the image again.",
            )
    config = read_config(read_document(source, image.manifest.config), f"the config of {name}")
    return OpenedImage(
        name=name,
        digest=image.digest,
        config_digest=image.manifest.config.digest,
        platform=config.platform,
        settings=config.settings,
        annotations=tuple(sorted((image.manifest.annotations or {}).items())),
        layers=_layers(config, [scans[layer.digest] for layer in image.manifest.layers]),
        document_size=image.manifest.config.size,
    )


def _layers(config: ImageConfig, scans: Sequence[LayerScan]) -> tuple[OpenedLayer, ...]:
    return tuple(
        OpenedLayer(kind, title, scan.digest, diff_id, scan)
        for (kind, title), diff_id, scan in zip(config.titles, config.diff_ids, scans, strict=True)
    )


# Archives, from a file or from `docker save`


def _from_archive_file(path: Path, session: Session, platform: Platform | None) -> OpenedImage:
    total = path.stat().st_size
    with path.open("rb") as file, session.progress.task(f"reading {path.name}", total) as task:
        scan = scan_archive(_chunks(file), str(path), Budget(), task.advance)
    return _from_archive(scan, str(path), platform)


def _from_docker(name: str, session: Session, platform: Platform | None) -> OpenedImage:
    wanted = name.removeprefix(DOCKER_PREFIX)
    if not wanted or wanted.startswith("-"):
        raise ProjectError(f"{wanted!r} is not the name of an image in Docker.", hint="Write docker:NAME:TAG.")
    with session.progress.task(f"reading {wanted} from Docker") as task, _saved(wanted, session) as file:
        scan = scan_archive(_chunks(file), name, Budget(), task.advance)
    return _from_archive(scan, name, platform)


@contextmanager
def _saved(name: str, session: Session) -> Iterator[BinaryIO]:
    """The output of `docker save`. Where the client failed, its own words are raised, not what they led to."""
    client = Client("docker", session.environ)
    if missing := client.why_not():
        raise EngineError(f"Docker cannot be used: {missing}.", hint="Install it, or give an archive of the image.")
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            ["docker", "image", "save", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env=dict(session.environ),
        ) as process,
    ):
        assert process.stdout is not None
        damaged: IntegrityError | None = None
        try:
            yield cast(BinaryIO, process.stdout)
        except IntegrityError as error:
            damaged = error
        finally:
            ended = damaged is None or process.stdout.read(1) == b""  # else it is cut short by us
            if not ended or sys.exc_info()[0]:
                process.kill()
        if process.wait() != 0 and ended:
            said.seek(0)
            raise client.refusal("save", said.read(64 << 10).decode(errors="replace")) from damaged
        if damaged:
            raise damaged


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _from_archive(scan: ArchiveScan, name: str, platform: Platform | None) -> OpenedImage:
    if "index.json" in scan.documents:
        source = _ArchiveSource(name, scan)
        image = read_image(source, platform or _platform_of(source))
        blobs = {layer.digest: scan.layer(_blob(layer.digest), name) for layer in image.manifest.layers}
        return _opened(name, source, image, blobs)
    if "manifest.json" in scan.documents:
        return _from_docker_archive(scan, name)
    raise IntegrityError(
        f"{name} is not an archive of an image: it has neither index.json nor manifest.json.",
        hint="`lightship build -o FILE`, `docker save` and `skopeo copy ... oci-archive:FILE` write archives.",
    )


@dataclass(frozen=True)
class _ArchiveSource:
    """An OCI layout in a tar, as a `published.Source`."""

    name: str
    scan: ArchiveScan

    def __str__(self) -> str:
        return self.name

    def top(self) -> bytes:
        content = self.scan.documents["index.json"]
        index = parse(content, Index, f"the index of {self.name}")
        if len(index.manifests) == 1:
            return read_document(self, index.manifests[0])
        return content

    def document(self, descriptor: Descriptor) -> bytes:
        path = _blob(descriptor.digest)
        if path not in self.scan.documents:
            raise IntegrityError(f"{self.name} lacks {path}.", hint="Save the image again, whole.")
        return self.scan.documents[path]

    def pull(self, layers: Sequence[Descriptor], session: Session) -> None:
        """Nothing: they were read as they passed."""


class _DockerManifest(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    layers: list[str]


def _from_docker_archive(scan: ArchiveScan, name: str) -> OpenedImage:
    """`manifest.json`: a config and the paths of layers, without their digests."""
    manifests = parse(scan.documents["manifest.json"], list[_DockerManifest], f"the manifest of {name}")
    if len(manifests) != 1:
        raise ProjectError(f"{name} holds {len(manifests)} images.", hint="Save the one image that is meant.")
    manifest = manifests[0]
    content = scan.documents.get(manifest.config)
    if content is None:
        raise IntegrityError(f"{name} lacks its config {manifest.config!r}.", hint="Save the image again, whole.")
    config = read_config(content, f"the config of {name}")
    if len(config.diff_ids) != len(manifest.layers):
        raise IntegrityError(
            f"{name} contradicts itself: its manifest has {len(manifest.layers)} layers, its config "
            f"{len(config.diff_ids)}."
        )
    scans = [scan.layer(path, name) for path in manifest.layers]
    for found, diff_id in zip(scans, config.diff_ids, strict=True):
        if found.size == found.unpacked_size and found.digest != diff_id:  # plain, as Docker and Podman save them
            raise IntegrityError(f"{name}: a layer does not hash to {diff_id}.", hint="Save the image again.")
    return OpenedImage(
        name=name,
        digest="",
        config_digest=digest_of(content),
        platform=config.platform,
        settings=config.settings,
        annotations=(),
        layers=_layers(config, scans),
        document_size=len(content),
    )


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
