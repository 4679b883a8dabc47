"""Engines by their command line clients: what `docker` and `podman` have in common, which is nearly everything.

The clients are called rather than their sockets, because they know contexts, remote hosts, rootless set-ups and
credentials, and because a user can type the same commands.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lightship.errors import EngineError
from lightship.layers.tar import Sink
from lightship.oci.archive import write_archive
from lightship.oci.image import Image
from lightship.progress import Task
from lightship.run.engine import RunOptions
from lightship.run.ports import LOOPBACK, free_port
from lightship.session import Session

QUICK = 10.0  # seconds for questions, such as whether a daemon answers
PATIENT = 120.0  # seconds for creating, starting and removing a container on a busy machine
LOG_BYTES = 1 << 20
LOG_LINES = 20_000  # asked for at most, so that a talkative server's log is not read from its beginning
DEFAULT_PORT = 8080  # where the image says nothing


@dataclass(frozen=True)
class Client:
    """A client program, with the environment that tells it where its engine is (DOCKER_HOST and others)."""

    program: str
    environ: Mapping[str, str]

    def why_not(self) -> str | None:
        """None where the program is installed, else the reason."""
        if shutil.which(self.program, path=self.environ.get("PATH")) is None:
            return f"the program `{self.program}` is not installed"
        return None

    def call(self, *arguments: str, timeout: float = PATIENT) -> str:
        """Run the client and return what it printed; raises `EngineError` with the client's own words."""
        done = self.attempt(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise self.refusal(arguments[0], done.stderr)
        return done.stdout.strip()

    def attempt(self, *arguments: str, timeout: float = QUICK) -> subprocess.CompletedProcess[str]:
        """Run the client and return whatever came of it."""
        try:
            return subprocess.run(
                [self.program, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                env=dict(self.environ),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"`{self.program} {arguments[0]}` gave no answer within {timeout:.0f} s.") from None
        except OSError as error:
            raise EngineError(f"`{self.program}` could not be run: {error.strerror}.") from error

    def refusal(self, command: str, output: str) -> EngineError:
        """The error for a command that failed. Its arguments are not shown: they may hold secrets."""
        lines = [line for line in output.strip().splitlines() if line.strip()]
        said = lines[-1].removeprefix("docker: ").removeprefix("Error: ") if lines else "it did not say why"
        if len(lines) > 1 and said.startswith(("See '", "Run '")):  # Docker's client ends with a pointer to its help
            said = lines[-2].removeprefix("docker: ")
        hint = None
        if "already allocated" in output or "address already in use" in output:
            hint = "Another program listens on that port; choose another with --port, or leave it out."
        return EngineError(f"`{self.program} {command}` failed: {said.rstrip('.')}.", hint=hint)

    def image_id(self, *names: str) -> str | None:
        """The ID of the first of these images that the engine has."""
        for name in names:
            found = self.attempt("image", "inspect", "--format", "{{.Id}}", name)
            if found.returncode == 0 and (identity := found.stdout.strip()):
                return identity if identity.startswith("sha256:") else f"sha256:{identity}"
        return None

    def load(self, image: Image, session: Session, *, name: str | None, plain: bool) -> str:
        """Bring an image into the engine where it lacks it, streaming, and return its ID.

        The ID is the config's digest in Docker's classic store and in Podman's; in Docker's containerd store it is
        the manifest's.
        """
        if found := self.image_id(image.config_digest, image.digest):
            if name:
                self.call("tag", found, name)
            return found
        name = name or f"lightship:{image.config_digest.removeprefix('sha256:')[:12]}"
        size = image.unpacked_size if plain else image.size
        with (
            session.progress.task(f"loading into {self.program}", size) as task,
            tempfile.TemporaryFile() as output,
            subprocess.Popen(
                [self.program, "load"], stdin=subprocess.PIPE, stdout=output, stderr=output, env=dict(self.environ)
            ) as process,
        ):
            assert process.stdin is not None
            try:
                with suppress(BrokenPipeError):  # it gave up early; what it said comes below
                    write_archive(image, session.cache, _Told(process.stdin, task), name=name, plain=plain)
                    process.stdin.flush()
            except BaseException:
                process.kill()
                raise
            finally:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            status = process.wait()
            output.seek(0)
            said = output.read(64 << 10).decode(errors="replace")
        if status != 0:
            raise self.refusal("load", said)
        if found := self.image_id(name):
            return found
        raise EngineError(f"`{self.program} load` succeeded, but the engine has no image {name}.")

    def start(self, image_id: str, image: Image, options: RunOptions, extra: Sequence[str] = ()) -> ClientContainer:
        """Create and start a container whose server is reached through a port on 127.0.0.1."""
        port = options.port or free_port()
        inside = image.settings.ports[0] if image.settings.ports else DEFAULT_PORT
        named = ("--name", options.name) if options.name else ()
        variables = [part for key, value in options.environment for part in ("--env", f"{key}={value}")]
        publish = ("--publish", f"{LOOPBACK}:{port}:{inside}")
        identity = self.call("create", *publish, *named, *variables, *extra, image_id)
        try:
            self.call("start", identity)
        except BaseException:
            self.attempt("rm", "--force", "--volumes", identity, timeout=PATIENT)
            raise
        return ClientContainer(self, identity, port, options.grace)


class _Told:
    """A stream that tells a task how much went through."""

    def __init__(self, stream: Sink, task: Task) -> None:
        self._write = stream.write
        self._task = task

    def write(self, data: bytes, /) -> None:
        self._write(data)
        self._task.advance(len(data))


class ClientContainer:
    """A container that was started by `Client.start`."""

    def __init__(self, client: Client, identity: str, port: int, grace: float) -> None:
        self._client = client
        self._identity = identity
        self._port = port
        self._grace = grace
        self._ended: tuple[int, str] | None = None  # exit status and logs, once it is removed

    @property
    def port(self) -> int:
        return self._port

    def logs(self) -> str:
        if self._ended:
            return self._ended[1]
        with tempfile.TemporaryFile() as output:
            subprocess.run(
                [self._client.program, "logs", "--tail", str(LOG_LINES), self._identity],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,  # the container's standard error, in the order in which it was written
                timeout=PATIENT,
                env=dict(self._client.environ),
                check=False,
            )
            output.seek(max(0, output.seek(0, 2) - LOG_BYTES))
            return output.read().decode(errors="replace")

    def wait(self, timeout: float | None = None) -> int | None:
        if self._ended:
            return self._ended[0]
        running, status = self._state()
        if not running or timeout == 0:
            return None if running else status
        process = subprocess.Popen(
            [self._client.program, "wait", self._identity],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(self._client.environ),
        )
        with process:
            try:
                printed, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                return None
            finally:
                process.kill()
        return int(printed) if process.returncode == 0 else self._state()[1]

    def stop(self) -> int:
        if self._ended:
            return self._ended[0]
        seconds = str(math.ceil(self._grace))
        self._client.attempt("stop", "--time", seconds, self._identity, timeout=self._grace + PATIENT)
        _, status = self._state()
        logs = self.logs()
        self._client.attempt("rm", "--force", "--volumes", self._identity, timeout=PATIENT)
        self._ended = (status, logs)
        return status

    def _state(self) -> tuple[bool, int]:
        """Whether it runs, and its exit status where it does not."""
        answer = self._client.call("inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", self._identity)
        running, _, status = answer.partition(" ")
        return running == "true", int(status)
