"""The embedded engine: runs an image with nothing but a Linux kernel. See launcher.py for what a container is."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lightship.errors import EngineError
from lightship.layers.rootfs import HOST_FILES, MOUNT_POINTS, root_filesystem
from lightship.oci.image import Image, Platform
from lightship.run.engine import RunOptions
from lightship.run.logs import LogTail
from lightship.run.ports import LOOPBACK, free_port
from lightship.run.user import image_user
from lightship.session import Session

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as Docker's
_LAUNCHER = Path(__file__).with_name("launcher.py")
_QEMU_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}  # OCI's name of an architecture -> QEMU's
_LAST_WAIT = 10.0  # seconds that a killed container may take to go; only a broken driver needs them
_SYSCTLS = (  # what forbids user namespaces to normal users, and the value that does
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),  # Ubuntu 23.10 and later
    ("kernel.unprivileged_userns_clone", "0"),  # Debian before 11, hardened kernels
    ("user.max_user_namespaces", "0"),  # Red Hat's hardening guides
)


@dataclass(frozen=True)
class EmbeddedEngine:
    """An `Engine` that needs no engine. `python` runs the launcher: any CPython from 3.11 on."""

    python: str = field(default_factory=lambda: sys.executable)
    name: str = "embedded"

    def why_not(self) -> str | None:
        """None where containers can be made here, else what forbids it and the remedy. Takes about 50 ms."""
        if sys.platform != "linux":
            return f"it needs Linux, and this is {platform.system()}; use Docker or Podman here"
        with tempfile.TemporaryDirectory(prefix="lightship-") as directory:
            for name in MOUNT_POINTS:
                Path(directory, name).mkdir()
            Path(directory).chmod(0o755)
            try:
                container = launch(self.python, launch_request(Path(directory), uid=65532, gid=65532), port=0)
            except LaunchError as error:
                return namespaces_refused(error.problem) or f"it failed in a way that was not foreseen ({error})"
            except EngineError as error:
                return error.message.rstrip(".")
            if status := container.wait(_LAST_WAIT):
                return (
                    f"{self.python} ended with the status {status}: {container.logs().strip() or 'it said nothing'}"
                )
        return None

    def start(self, image: Image, session: Session, options: RunOptions) -> EmbeddedContainer:
        """Unpack the image where the cache lacks it, and start a container on a port of the loopback.

        The network is the host's, so the server inside must listen where it is told: LIGHTSHIP_HOST and
        LIGHTSHIP_PORT (and PORT, which many servers know) say so.

        Raises:
            EngineError: The port is taken, the kernel refuses namespaces, or the program cannot be run.
            IntegrityError: A layer is damaged.
            StorageError: The cache cannot be written.
        """
        cache = session.cache
        root, held = cache.held_tree(lambda: root_filesystem(image.layers, cache, session.progress))
        try:
            return self._start(image, root, options, held)
        except BaseException:
            if held:
                held.close()
            raise

    def _start(self, image: Image, root: Path, options: RunOptions, held: BinaryIO | None) -> EmbeddedContainer:
        settings = image.settings
        user = image_user(settings.user, root)
        port = free_port(options.port)
        environment = {
            "PATH": DEFAULT_PATH,
            "HOME": user.home,
            **dict(settings.environment),
            **dict(options.environment),
            "LIGHTSHIP_HOST": LOOPBACK,
            "LIGHTSHIP_PORT": str(port),
            "PORT": str(port),
        }
        arguments = (*settings.entrypoint, *settings.command)
        if not arguments:
            raise EngineError("The image has neither an entrypoint nor a command, so there is nothing to run.")
        request = launch_request(
            root,
            emulator=_emulator(image),
            uid=user.uid,
            gid=user.gid,
            arguments=arguments,
            environment=environment,
            directory=settings.working_directory or "/",
            host_name=options.name or "lightship",
            stop_signal=_signal_number(settings.stop_signal),
        )
        try:
            return launch(self.python, request, port=port, grace=options.grace, held=held)
        except LaunchError as error:
            raise _start_error(error.problem, image) from error


class EmbeddedContainer:
    """A container of the embedded engine. When this object goes, or its process dies, so does the container.

    `held` keeps its root file system from being pruned; it is closed when the container has ended.
    """

    def __init__(
        self, launcher: subprocess.Popen[bytes], log: LogTail, port: int, grace: float, held: BinaryIO | None = None
    ) -> None:
        self._launcher = launcher
        self._log = log
        self._grace = grace
        self._held = held
        self.port = port

    @property
    def pid(self) -> int:
        """The process that waits for the container, on this machine."""
        return self._launcher.pid

    def logs(self) -> str:
        """What it wrote to standard output and error so far (at most the last MiB)."""
        return self._log.text()

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status (128 and the signal's number where one ended it), or None after `timeout` seconds."""
        try:
            status = self._launcher.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._log.finish(_LAST_WAIT)
        self._let_go()
        if self._held:
            self._held.close()
        return status if status >= 0 else 128 - status

    def stop(self) -> int:
        """Send the image's stop signal, after the grace period SIGKILL; return the exit status."""
        if self._launcher.poll() is None:
            self._launcher.send_signal(signal.SIGTERM)
        status = self.wait(self._grace)
        if status is None:
            self._let_go()  # the launcher kills the container, and ends when the last of its processes is gone
            status = self.wait(_LAST_WAIT)
        if status is None:
            self._launcher.kill()
            status = self.wait()
        assert status is not None
        return status

    def _let_go(self) -> None:
        assert self._launcher.stdin is not None
        with suppress(BrokenPipeError):  # of a request that nobody lived to read
            self._launcher.stdin.close()


class LaunchError(Exception):
    """The launcher's report of what went wrong."""

    def __init__(self, problem: dict[str, Any]) -> None:
        number = int(problem["errno"])
        super().__init__(f"{problem['step']} {problem['subject']}: {os.strerror(number)}")
        self.problem = problem


def launch_request(
    root: Path,
    *,
    uid: int,
    gid: int,
    arguments: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    directory: str = "/",
    host_name: str = "lightship",
    stop_signal: int = signal.SIGTERM,
    emulator: str | None = None,
    network: bool = True,
    work: tuple[Path, str] | None = None,
) -> dict[str, Any]:
    """What the launcher reads. Without arguments it sets everything up, runs nothing and ends well.

    Args:
        network: Whether it shares the host's network and its resolver's files; else it has none.
        work: A folder of this machine, and its place in the container (relative to the root, below tmp).
    """
    return {
        "root": os.fspath(root),
        "uid": uid,
        "gid": gid,
        "arguments": list(arguments),
        "environment": environment or {},
        "directory": directory,
        "host_name": host_name[:64],
        "stop_signal": int(stop_signal),
        "emulator": emulator,
        "files": [[f"/{name}", name] for name in HOST_FILES] if network else [],
        "network": network,
        "work": [os.fspath(work[0].absolute()), work[1]] if work else None,
    }


def _emulator(image: Image) -> str | None:
    """QEMU's program for an image of another processor (Debian: qemu-user-static), where there is one.

    It emulates the image's program, and not what that program starts: enough for a server, and for its proof.
    """
    architecture = image.platform.architecture
    if architecture == Platform.of_this_machine().architecture:
        return None
    name = _QEMU_NAMES.get(architecture, architecture)
    return shutil.which(f"qemu-{name}-static") or shutil.which(f"qemu-{name}")


def launch(
    python: str, request: dict[str, Any], *, port: int, grace: float = 10.0, held: BinaryIO | None = None
) -> EmbeddedContainer:
    """Start the launcher, and return when the image's program runs."""
    report, reporting = os.pipe()
    log, logging = os.pipe()
    with os.fdopen(report, "rb") as reports:
        try:
            launcher = subprocess.Popen(
                [python, "-I", "-S", os.fspath(_LAUNCHER), str(reporting)],
                stdin=subprocess.PIPE,
                stdout=logging,
                stderr=logging,
                pass_fds=[reporting],
                start_new_session=True,  # Ctrl-C is for us; we stop the container in our own way
            )
        except OSError as error:
            os.close(log)
            raise EngineError(f"Could not run {python}: {error.strerror}.") from error
        finally:
            os.close(reporting)
            os.close(logging)
        container = EmbeddedContainer(launcher, LogTail(log), port, grace, held)
        assert launcher.stdin is not None
        try:
            # In a pipe rather than in arguments, where every user of the machine could read the environment.
            launcher.stdin.write(json.dumps(request).encode() + b"\n")
            launcher.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once: its log says why
        problem = reports.read()
    if problem:
        container.stop()
        raise LaunchError(json.loads(problem))
    return container


def _signal_number(name: str) -> int:
    """The number of a stop signal as image configs write it: `SIGTERM`, `TERM` or `15`."""
    if name.isdigit() and int(name) in set(signal.valid_signals()):
        return int(name)
    try:
        return signal.Signals["SIG" + name.upper().removeprefix("SIG")]
    except KeyError:
        return signal.SIGTERM


def _start_error(problem: dict[str, Any], image: Image) -> EngineError:
    step, subject, number = str(problem["step"]), str(problem["subject"]), int(problem["errno"])
    why = os.strerror(number)
    if step in ("program", "interpreter"):
        return _program_error(step, subject, number, image)
    if step == "directory":
        return EngineError(f"The working directory {subject} of the image cannot be entered: {why}.")
    if refused := namespaces_refused(problem):
        return EngineError(f"The embedded engine does not work here: {refused}.")
    return EngineError(f"The container did not start: {step} {subject}: {why}.")


def _program_error(step: str, program: str, number: int, image: Image) -> EngineError:
    if step == "interpreter":
        return EngineError(
            f"{program} is in the image, but what it needs to run is not: its loader (ld-linux) or the one after #!.",
            hint="Programs for Alpine (musl) do not run on Debian (glibc), and the reverse.",
        )
    if number == errno.ENOENT:
        return EngineError(f"The entrypoint {program} is not in the image.")
    if number == errno.ENOEXEC:
        return EngineError(
            f"{program} is no program for this machine: the image is for {image.platform}, "
            f"this is {platform.machine()}.",
            hint="Build for this machine's platform, run the image on one that fits, or install QEMU's user-mode "
            "emulation (Debian: qemu-user-static).",
        )
    return EngineError(
        f"The entrypoint {program} cannot be run as the user {image.settings.user}: {os.strerror(number)}.",
        hint="Is it executable for everybody, and the file system of the cache not mounted noexec?",
    )


def namespaces_refused(problem: dict[str, Any]) -> str | None:
    """What forbids namespaces here and what to do, where the launcher met that."""
    if problem["step"] not in ("namespaces", "ids", "mount"):
        return None
    why = os.strerror(int(problem["errno"]))
    for name, forbidding in _SYSCTLS:
        try:
            value = Path("/proc/sys", *name.split(".", 1)).read_text().strip()
        except OSError:
            continue
        if value == forbidding:
            allowing = {"1": "0", "0": "1"}[forbidding] if "max" not in name else "15000"
            return (
                f"user namespaces are forbidden to normal users ({name} = {value}); allow them with "
                f"`sudo sysctl -w {name}={allowing}`, or use Docker or Podman"
            )
    if problem["step"] == "namespaces":
        return f"the kernel refuses new namespaces ({why}), as it does inside most containers; use Docker or Podman"
    what = f"to mount {problem['subject']}" if problem["step"] == "mount" else f"the user ids {problem['subject']}"
    return f"the kernel refuses {what} in a new namespace ({why}); use Docker or Podman"
