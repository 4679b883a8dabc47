"""A real Docker engine for benchmarks: the one that DOCKER_HOST names, or one started here and stopped afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Run, timed

# The client that Debian's docker.io installs: it has BuildKit's `docker build`. A newer client found first on the
# PATH may lack its buildx plugin.
CLIENT = "/usr/bin/docker"
STANDIN = "python-slim:standin"


@dataclass(frozen=True)
class Docker:
    """A reachable engine."""

    environ: dict[str, str]

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Docker]:
        """The engine of DOCKER_HOST, else a dockerd of our own (root and Debian's docker.io are needed)."""
        if host := os.environ.get("DOCKER_HOST"):
            yield cls(_environ(host))
            return
        if shutil.which("dockerd") is None:
            raise SystemExit("This benchmark needs dockerd: apt-get install docker.io mmdebstrap")
        directory = Path(tempfile.mkdtemp(prefix="lightship-dockerd-"))
        host = f"unix://{directory}/docker.sock"
        arguments = ["--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "-p", f"{directory}/pid"]
        with (directory / "log").open("w") as log:
            process = subprocess.Popen(["dockerd", *arguments, "-H", host], stdout=log, stderr=log)
        try:
            docker = cls(_environ(host))
            docker._wait(process, directory / "log")
            yield docker
        finally:
            process.terminate()
            process.wait(timeout=60)
            shutil.rmtree(directory, ignore_errors=True)

    def build(self, project: Path, *, tag: str, base: str) -> Run:
        """`docker build` with BuildKit. The host's network and package settings reach the RUN steps."""
        command = [CLIENT, "build", "--network", "host", "--build-arg", f"BASE={base}", "-t", tag, "."]
        return timed(command, cwd=project, environ=self.environ)

    def forget_builds(self) -> None:
        """Empty the build cache, so that the next build is cold."""
        self.call("builder", "prune", "--all", "--force")

    def image_size(self, tag: str) -> int:
        """Bytes of the unpacked layers, as `docker images` counts them."""
        return int(self.call("image", "inspect", "--format", "{{.Size}}", tag))

    def call(self, *arguments: str, stdin: Path | None = None) -> str:
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = subprocess.run(
                [CLIENT, *arguments], env=self.environ, stdin=source, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise SystemExit(f"docker {' '.join(arguments)} failed: {done.stderr}")
        return done.stdout.strip()

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        for _ in range(300):
            if process.poll() is not None:
                break
            if subprocess.run([CLIENT, "info"], env=self.environ, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.2)
        raise SystemExit(f"dockerd did not start:\n{log.read_text()[-2000:]}")


def standin_base(docker: Docker, work: Path) -> str:
    """An image like python:3.11-slim from Debian's packages: Python, pip, and the host's certificate authorities."""
    archive = work / "standin.tar"
    include = "python3,python3-pip,python3-venv,ca-certificates"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}", *_hooks(), "bookworm", str(archive)],
        check=True,
    )
    # The official images have no marker of an externally managed environment, and install into /usr/local.
    settings = ("ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_CERT=/etc/ssl/certs/ca-certificates.crt",)
    changes = [part for line in settings for part in ("--change", line)]
    docker.call("import", *changes, "-", STANDIN, stdin=archive)
    archive.unlink()
    return STANDIN


def _hooks() -> list[str]:
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    hooks = [f'--customize-hook=copy-in {bundle} /etc/ssl/certs/'] if bundle else []
    # Debian's pip installs below local/; the official image's pip does not. The app finds both.
    hooks.append('--customize-hook=ln -s ../../local "$1/usr/local/local" 2>/dev/null || true')
    return hooks


def _environ(host: str) -> dict[str, str]:
    return {**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "1"}
