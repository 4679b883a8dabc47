"""A real Docker engine for benchmarks."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Run, timed

STANDIN = "python-slim:standin"


@dataclass(frozen=True)
class Docker:
    """A reachable engine."""

    environ: dict[str, str]
    find_links: str | None = None

    @classmethod
    def of_environment(cls, find_links: str | None = None) -> Docker:
        """The engine that DOCKER_HOST names; `scripts/with-dockerd.sh` starts one and names it.

        `find_links` is a place with more wheels that a RUN step can reach.
        """
        if not os.environ.get("DOCKER_HOST"):
            raise SystemExit("This benchmark needs a Docker engine: scripts/with-dockerd.sh COMMAND")
        return cls({**os.environ, "DOCKER_BUILDKIT": "1"}, find_links)

    def build(self, project: Path, *, tag: str, base: str) -> Run:
        """`docker build` with BuildKit. The host's network and package settings reach the RUN steps."""
        command = ["docker", "build", "--network", "host", "--build-arg", f"BASE={base}", "-t", tag]
        if self.find_links:
            command += ["--build-arg", f"PIP_FIND_LINKS={self.find_links}"]
        return timed([*command, "."], cwd=project, environ=self.environ)

    def push(self, tag: str) -> Run:
        """`docker push`; the tag names the registry."""
        return timed(["docker", "push", "--quiet", tag], cwd=Path("/"), environ=self.environ)

    def pull(self, reference: str) -> Run:
        """`docker pull`, which ends when all layers are unpacked."""
        return timed(["docker", "pull", "--quiet", reference], cwd=Path("/"), environ=self.environ)

    def forget_images(self) -> None:
        """Delete every image and every layer; a build's cache would keep layers alive, so it goes too."""
        self.forget_builds()
        self.call("image", "prune", "--all", "--force")

    def forget_builds(self) -> None:
        """Empty the build cache, so that the next build is cold."""
        self.call("builder", "prune", "--all", "--force")

    def image_size(self, tag: str) -> int:
        """Bytes of the unpacked layers, as `docker images` counts them."""
        return int(self.call("image", "inspect", "--format", "{{.Size}}", tag))

    def call(self, *arguments: str, stdin: Path | None = None) -> str:
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = subprocess.run(
                ["docker", *arguments], env=self.environ, stdin=source, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise SystemExit(f"docker {' '.join(arguments)} failed: {done.stderr}")
        return done.stdout.strip()


def standin_base(docker: Docker, work: Path) -> str:
    """An image like python:3.11-slim from Debian's packages: Python, pip, and the host's certificate authorities."""
    archive = work / "standin.tar"
    include = "python3,python3-pip,python3-venv,ca-certificates"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}", *_hooks(), "bookworm", str(archive)],
        check=True,
    )
    settings = ("ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_CERT=/etc/ssl/certs/ca-certificates.crt",)
    changes = [part for line in settings for part in ("--change", line)]
    docker.call("import", *changes, "-", STANDIN, stdin=archive)
    archive.unlink()
    return STANDIN


def _hooks() -> list[str]:
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    hooks = [f"--customize-hook=copy-in {bundle} /etc/ssl/certs/"] if bundle else []
    # As in the official image, python and pip are in /usr/local, and packages go to its site-packages.
    hooks.append('--customize-hook=chroot "$1" python3 -m venv /usr/local')
    return hooks
