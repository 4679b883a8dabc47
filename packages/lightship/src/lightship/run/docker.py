"""The Docker engine, by the `docker` client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lightship.errors import EngineError
from lightship.oci.image import Image
from lightship.run.client import QUICK, Client, ClientContainer
from lightship.run.engine import RunOptions
from lightship.run.gpus import takes_gpus
from lightship.session import Session

FIRST_WITH_ZSTD = 23  # moby#41759; 20.10 fails with "archive/tar: invalid tar header"


@dataclass(frozen=True)
class DockerEngine:
    """Runs images in Docker: the daemon that DOCKER_HOST or the user's Docker context names."""

    environ: Mapping[str, str]

    @property
    def name(self) -> str:
        return "docker"

    def why_not(self) -> str | None:
        if missing := self._client.why_not():
            return missing
        try:
            self.server_version()
        except EngineError as error:
            return error.message
        return None

    def load(self, image: Image, session: Session, *, name: str | None = None) -> str:
        """Bring the image into Docker where it lacks it and return its ID; `name` it, where given."""
        return self._client.load(image, session, name=name, plain=self.server_version() < FIRST_WITH_ZSTD)

    def start(self, image: Image, session: Session, options: RunOptions) -> ClientContainer:
        gpus = ("--gpus", "all") if takes_gpus(image) else ()
        return self._client.start(self.load(image, session), image, options, gpus)

    def server_version(self) -> int:
        """The daemon's major version; raises `EngineError` where none answers."""
        done = self._client.attempt("version", "--format", "{{.Server.Version}}", timeout=QUICK)
        version = re.match(r"[0-9]+", done.stdout)
        if done.returncode != 0 or not version:
            words = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            raise EngineError(
                f"no Docker daemon answers: {words.rstrip('.?')}",
                hint="Start Docker, or set DOCKER_HOST, or use another engine with --engine.",
            )
        return int(version[0])

    @property
    def _client(self) -> Client:
        return Client("docker", self.environ)
