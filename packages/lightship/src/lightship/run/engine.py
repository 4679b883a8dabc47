"""What it means to run an image: one small interface, one file per engine (docker, podman, embedded)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lightship.oci.image import Image
from lightship.session import Session


@dataclass(frozen=True)
class RunOptions:
    """What the user may choose about a container.

    Attributes:
        port: The port on 127.0.0.1 that reaches the server; None picks a free one.
        environment: Additional variables, over those of the image.
        name: A name for the container where the engine has names.
        grace: Seconds between SIGTERM and SIGKILL when it is stopped.
    """

    port: int | None = None
    environment: tuple[tuple[str, str], ...] = ()
    name: str | None = None
    grace: float = 10.0


class Container(Protocol):
    """A started container."""

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 that reaches the server inside."""
        ...

    def logs(self) -> str:
        """What it wrote to standard output and error so far (at most the last MiB)."""
        ...

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status, or None where it still runs after `timeout` seconds."""
        ...

    def stop(self) -> int:
        """Send SIGTERM, after the grace period SIGKILL; return the exit status. Stopping twice is harmless."""
        ...


class Engine(Protocol):
    """Something that runs images on this machine."""

    @property
    def name(self) -> str: ...

    def why_not(self) -> str | None:
        """None where the engine can be used here, else the reason, for people."""
        ...

    def start(self, image: Image, session: Session, options: RunOptions) -> Container:
        """Deliver the image to the engine where it lacks it, and start a container."""
        ...
