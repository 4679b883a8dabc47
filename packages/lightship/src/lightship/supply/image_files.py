"""Small files of an image that say what its packages are: read from its layers in one pass each, within bounds.

The layers are what a node will run, so what they say is the truth, and they are in the cache after every build,
where the wheels and packages that they were made of need not be.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from lightship.cache import Cache
from lightship.errors import IntegrityError
from lightship.layers import Layer, plain_tar
from lightship.layers.tar_stream import Kind, TarStream

LARGEST = 4 << 20  # bytes of one file that are kept; a base's dpkg status has 0.1 MB
MOST_BYTES = 64 << 20  # of all of them and their paths; the copyright files of a large Debian image have 10 MB
_WHITEOUT = ".wh."  # image-spec layer.md, "Whiteouts"
_OPAQUE = ".wh..wh..opq"

_WANTED = re.compile(
    r"usr/share/doc/[^/]+/copyright"
    r"|(?:etc|usr/lib)/os-release"
    r"|var/lib/dpkg/(?:status|status\.d/(?!.*\.(?:md5sums|list)$)[^/]+)"
    r"|(?:.+/)?(?:site|dist)-packages/[^/]+\.dist-info/METADATA"
)
_LINK = re.compile(r"usr/share/doc/[^/]+")

_T = TypeVar("_T")


@dataclass
class ImageFiles:
    """Path, without a leading slash, to the first bytes of each file; and the links between folders of documents."""

    contents: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def copyright_of(self, package: str) -> bytes:
        """The copyright file of a Debian package, which may lie in the folder of another one; empty without any."""
        folder = f"usr/share/doc/{package}"
        for _ in range(4):
            if (found := self.contents.get(f"{folder}/copyright")) is not None:
                return found
            if (target := self.links.get(folder)) is None:
                break
            folder = _normal(posixpath.join("/usr/share/doc", target))
        return b""


def read_image_files(layers: Iterable[Layer], cache: Cache) -> ImageFiles:
    """What the layers, base first, leave of the files that are wanted.

    Raises: `IntegrityError` where a layer is damaged or has gone from the cache.
    """
    found = ImageFiles()
    for layer in layers:
        _apply(layer, cache, found)
    return found


def _apply(layer: Layer, cache: Cache, found: ImageFiles) -> None:
    here = ImageFiles()
    gone: set[str] = set()
    left = MOST_BYTES - sum(len(path) + len(content) for path, content in found.contents.items())
    with plain_tar(layer, cache) as chunks:
        stream = TarStream(chunks, f"The layer {layer.title!r}")
        for entry in stream:
            path = _normal(entry.path)
            folder, _, name = path.rpartition("/")
            if name.startswith(_WHITEOUT):
                removed = folder if name == _OPAQUE else posixpath.join(folder, name.removeprefix(_WHITEOUT))
                gone.add(removed)
                left -= len(removed)
            elif entry.kind is Kind.FILE and _WANTED.fullmatch(path):
                here.contents[path] = content = _beginning(stream)
                left -= len(path) + len(content)
            elif entry.kind is Kind.SYMLINK and _LINK.fullmatch(path):
                here.links[path] = entry.target
                left -= len(path) + len(entry.target)
            if left < 0:
                raise IntegrityError(
                    f"The layer {layer.title!r} holds more records of packages than is reasonable.",
                    hint="Such a layer is made to exhaust what reads it; choose another base.",
                )
    found.contents = _without(found.contents, gone) | here.contents
    found.links = _without(found.links, gone) | here.links


def _beginning(stream: TarStream) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for piece in stream.content():
        if size < LARGEST:
            pieces.append(bytes(piece[: LARGEST - size]))
            size += len(pieces[-1])
    return b"".join(pieces)


def _without(kept: Mapping[str, _T], gone: set[str]) -> dict[str, _T]:
    return {path: value for path, value in kept.items() if gone.isdisjoint(_with_parents(path))}


def _with_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts) + 1)]


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path).lstrip("/")
