"""What a build hands over: the image, and everything that it was made of, by hash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from lightship.bases.debian import DebianLock
from lightship.bases.image import ImageLock
from lightship.layers.files import FileEntry
from lightship.lock import Lock
from lightship.oci import Image
from lightship.project.settings import Settings


@dataclass(frozen=True)
class Materials:
    """A built image with its lock, as one value.

    Attributes:
        name: The image's name, without registry and tag.
        tag: Its tag.
        base: The base's half of the lock, read.
        weights: The files of the model, with their paths in the image.
        settings: The project's, with what the command line overrode.
    """

    name: str
    tag: str
    image: Image
    lock: Lock
    base: DebianLock | ImageLock
    weights: tuple[FileEntry, ...]
    settings: Settings

    @property
    def digest_hex(self) -> str:
        """The image's digest, 64 hex digits."""
        return self.image.digest.removeprefix("sha256:")

    @property
    def timestamp(self) -> str:
        """What documents give as their time: the image's own, so that they are the same for the same image."""
        return datetime.fromtimestamp(self.image.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def python_version(self) -> str:
        """The full version of the image's Python, such as 3.11.2."""
        return self.base.python_version
