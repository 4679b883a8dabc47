"""What a base brings: layers, an interpreter, a C library. One value, whichever way the base was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightship.layers import Layer


@dataclass(frozen=True)
class Interpreter:
    """The Python that is in the image.

    Attributes:
        path: Its absolute path inside the image, such as /usr/bin/python3.11.
        version: The full version, such as 3.11.2; the bytecode's cache key depends on it.
        root: Unpacks (or finds) the base's root file system on this machine and returns its directory; called only
            when something must be run with this interpreter, such as the byte compiler.
    """

    path: str
    version: str
    root: Callable[[], Path]

    @property
    def minor(self) -> str:
        """`3.11` of 3.11.2: what wheels and bytecode are bound to."""
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True)
class Base:
    """A base, ready to be built upon."""

    reference: str  # debian:bookworm, oci:<dir> or <registry>/<repository>@sha256:...
    digest: str | None  # of the manifest it came from; None for an assembled base
    architecture: str  # in OCI's words: amd64, arm64
    layers: tuple[Layer, ...]
    interpreter: Interpreter
    environment: tuple[tuple[str, str], ...]
    os_release: str  # "Debian GNU/Linux 12 (bookworm)", for people
    fetch: Callable[[], None] = lambda: None  # brings the layers into the cache, where they are not yet
    lazy: bool = False  # whether the cache knows where to get them when somebody reads them
