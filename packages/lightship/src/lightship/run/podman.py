"""The Podman engine, by the `podman` client."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lightship.errors import EngineError
from lightship.oci.image import Image
from lightship.run.client import PATIENT, Client, ClientContainer
from lightship.run.engine import RunOptions
from lightship.run.gpus import takes_gpus
from lightship.session import Session

_NOT_FOUND = 127  # of `podman run`, where the command is not in the container: everything else worked


@dataclass(frozen=True)
class PodmanEngine:
    """Runs images in Podman, as root or rootless. It reads every compression of layers."""

    environ: Mapping[str, str]

    @property
    def name(self) -> str:
        return "podman"

    def why_not(self) -> str | None:
        """Besides looking for the program, try to start an empty container: where Podman itself runs in a container
        or a sandbox, it may load images but not run them.
        """
        if missing := self._client.why_not():
            return missing
        with tempfile.TemporaryDirectory() as empty:
            try:
                done = self._client.attempt(
                    "run", "--rm", "--network=none", *limits(), "--rootfs", empty, "/nothing", timeout=PATIENT
                )
            except EngineError as error:
                return error.message
        if done.returncode == _NOT_FOUND or "not found" in done.stderr or "no such file" in done.stderr.lower():
            return None
        return self._client.refusal("run", done.stderr).message

    def load(self, image: Image, session: Session, *, name: str | None = None) -> str:
        """Bring the image into Podman where it lacks it and return its ID; `name` it, where given."""
        return self._client.load(image, session, name=name, plain=False)

    def start(self, image: Image, session: Session, options: RunOptions) -> ClientContainer:
        gpus = ("--device", "nvidia.com/gpu=all") if takes_gpus(image) else ()
        return self._client.start(self.load(image, session), image, options, (*limits(), *gpus))

    @property
    def _client(self) -> Client:
        return Client("podman", self.environ)


def limits() -> tuple[str, ...]:
    """Options that keep a container's resource limits within ours.

    Podman asks for 1048576 open files and 4194304 processes by default, and fails where it is root but may not raise
    its own limits, as in a sandbox ("error setting rlimit type 7: operation not permitted"). Its monitor, conmon,
    lowers the limit of processes to the kernel's pid_max before it starts the container.
    """
    most = {
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "nproc": resource.getrlimit(resource.RLIMIT_NPROC)[1],
    }
    with suppress(OSError, ValueError):
        pids = int(Path("/proc/sys/kernel/pid_max").read_text())
        most["nproc"] = pids if most["nproc"] == resource.RLIM_INFINITY else min(most["nproc"], pids)
    finite = {name: limit for name, limit in most.items() if limit != resource.RLIM_INFINITY}
    return tuple(part for name, limit in finite.items() for part in ("--ulimit", f"{name}={limit}:{limit}"))
