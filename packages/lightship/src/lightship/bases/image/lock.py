"""A published base, locked: every document and layer by digest, and the Python that was found in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lightship.bases.image.contents import read_contents
from lightship.errors import IntegrityError, LockError, ProjectError
from lightship.layers import Compression, Layer
from lightship.oci.image import Platform
from lightship.oci.layout import open_layout
from lightship.oci.name import Reference
from lightship.oci.published import Descriptor, Digest, PublishedImage, Size, Source, read_image
from lightship.session import Session

LAYOUT_PREFIX = "oci:"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # of engines, where an image sets none
_FULL_VERSION = re.compile(r"3\.[0-9]{1,2}\.[0-9]{1,3}")


class LockedLayer(msgspec.Struct, frozen=True, rename="kebab"):
    """A layer of the base; `size` in bytes as stored."""

    digest: Digest
    diff_id: Digest
    size: Size
    media_type: str

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, self.size)


class ImageLock(msgspec.Struct, frozen=True, rename="kebab"):
    """Everything that decides what a published base brings.

    Attributes:
        reference: As the project has it: `oci:<directory>` or `<registry>/<repository>:<tag>`.
        manifest: Digest of the platform's manifest.
        os_release: The system's name for people; empty where the layers were not looked into.
        glibc: The version of the C library, such as 2.36; empty where the layers were not looked into.
    """

    reference: str
    architecture: str
    manifest: Digest
    python_path: Annotated[str, msgspec.Meta(pattern=r"^(/[A-Za-z0-9._+-]+)+\Z")]
    python_version: Annotated[str, msgspec.Meta(pattern=r"^3\.[0-9]{1,2}\.[0-9]{1,3}\Z")]
    environment: tuple[str, ...]
    layers: tuple[LockedLayer, ...]
    os_release: str = ""
    glibc: Annotated[str, msgspec.Meta(pattern=r"^(2\.[0-9]{1,3})?\Z")] = ""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in lightship.lock."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ImageLock:
        """Read back what `to_dict` wrote; a `LockError` names what is not of that form."""
        try:
            lock = msgspec.convert(dict(fields), cls)
            for layer in lock.layers:
                Compression.of_media_type(layer.media_type)
        except (msgspec.ValidationError, IntegrityError) as error:
            raise LockError(
                f"The locked base is not readable: {error}.", hint="Run `lightship lock` to write it anew."
            ) from error
        return lock


def lock_image(reference: str, platform: Platform, session: Session, directory: Path | None = None) -> ImageLock:
    """Read a published image's documents and pin what they say.

    No layer is fetched where the config names the Python, as the official Python images do; otherwise the layers are
    brought into the cache and looked through.

    Args:
        directory: Where a relative path in `oci:<path>` starts: the project's directory.

    Raises: `ProjectError` where the base cannot be used, such as one without Python or with musl; `NetworkError`,
        `IntegrityError`.
    """
    source = image_source(reference, session, directory)
    image = read_image(source, platform)
    environment = tuple(image.config.config.env or ()) if image.config.config else ()
    variables = dict(entry.partition("=")[::2] for entry in environment)
    layers = tuple(
        LockedLayer(descriptor.digest, diff_id, descriptor.size, oci_media_type(descriptor.media_type))
        for descriptor, diff_id in image.layers
    )
    _refuse_alpine(image, reference)
    version, os_release, glibc = variables.get("PYTHON_VERSION", ""), "", ""
    if _FULL_VERSION.fullmatch(version):
        path = f"/usr/local/bin/python{version.rpartition('.')[0]}"
    else:
        source.pull([layer.descriptor for layer in layers], session)
        contents = read_contents(base_layers(layers, session), session.cache)
        if contents.musl:
            raise musl_error(reference)
        found = contents.find_python(variables.get("PATH") or DEFAULT_PATH)
        if found is None:
            raise ProjectError(
                f"The base {reference} has no Python 3 in its PATH.",
                hint='Choose a base with Python, such as the official python image, or base = "debian:bookworm".',
            )
        path, version = found
        os_release, glibc = contents.pretty_name(), contents.glibc_version()
    return ImageLock(
        reference=reference,
        architecture=platform.architecture,
        manifest=image.digest,
        python_path=path,
        python_version=version,
        environment=environment,
        layers=layers,
        os_release=os_release,
        glibc=glibc,
    )


def image_source(
    reference: str, session: Session, directory: Path | None = None, *, digest: str | None = None
) -> Source:
    """The layout or registry that a reference names; `digest` pins the manifest of a registry."""
    if reference.startswith(LAYOUT_PREFIX):
        name = reference.removeprefix(LAYOUT_PREFIX)
        path, tag = (directory or Path()) / name, None
        if not path.is_dir() and ":" in name.rpartition("/")[2]:
            name, _, tag = name.rpartition(":")
            path = (directory or Path()) / name
        return open_layout(path, tag)
    from lightship.oci.mirrored import registry_source

    named = Reference.parse(reference)
    return registry_source(named.at(digest) if digest else named, session)


def base_layers(layers: tuple[LockedLayer, ...], session: Session) -> tuple[Layer, ...]:
    """The locked layers as layers of an image. Their unpacked size is not known, and given as 0."""
    return tuple(
        Layer(
            kind="base",
            title=f"base image, layer {number} of {len(layers)}",
            digest=layer.digest,
            diff_id=layer.diff_id,
            size=layer.size,
            unpacked_size=0,
            media_type=layer.media_type,
            from_cache=session.cache.has_blob(layer.digest, layer.size),
        )
        for number, layer in enumerate(layers, 1)
    )


def oci_media_type(media_type: str) -> str:
    """OCI's name for a layer's type. Docker's types and OCI's may not be mixed in a manifest; the bytes are equal."""
    return Compression.of_media_type(media_type).media_type


def musl_error(reference: str) -> ProjectError:
    return ProjectError(
        f"The base {reference} is built on musl (Alpine), for which most packages of inference have no wheels.",
        hint="Choose a base with glibc: a Debian or Ubuntu one, such as the -slim tags of the official python image.",
    )


def _refuse_alpine(image: PublishedImage, reference: str) -> None:
    """Alpine shows in the commands that an image was made with; its layers tell for certain, once they are here."""
    commands = " ".join(entry.created_by for entry in image.config.history or ())
    if "apk add" in commands or "alpine-minirootfs" in commands:
        raise musl_error(reference)
