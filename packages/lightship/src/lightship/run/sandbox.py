"""A program run once in a root file system of the cache, without a network, as nobody: where packages are built.

The same container as the embedded engine's (launcher.py), with one folder of this machine to work in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightship.errors import EngineError
from lightship.run.embedded import LaunchError, launch, launch_request, namespaces_refused

WORK = "/tmp/build"  # noqa: S108 - inside the sandbox, where the folder to work in is mounted
NOBODY = 65532  # user and group inside; as root they are the real ones too


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit status (None where it took too long), and at most the last MiB it wrote."""

    status: int | None
    output: str


def run_sandboxed(
    root: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    work: Path,
    *,
    timeout: float,
    python: str = sys.executable,
) -> Finished:
    """Run a program to its end.

    Args:
        root: The root file system; read-only inside.
        environment: All variables that the program gets.
        work: A folder that is `WORK` inside, the working directory, and writable. It becomes the sandbox's user's.
        timeout: Seconds; then everything in the sandbox is killed.
        python: Runs the launcher.

    Raises: `EngineError` where the kernel refuses a sandbox, or the root lacks the program.
    """
    _hand_over(work)
    request = launch_request(
        root,
        uid=NOBODY,
        gid=NOBODY,
        arguments=tuple(arguments),
        environment=dict(environment),
        directory=WORK,
        host_name="build",
        network=False,
        work=(work, WORK.lstrip("/")),
    )
    try:
        container = launch(python, request, port=0, grace=0.0)
    except LaunchError as error:
        why = namespaces_refused(error.problem) or str(error)
        raise EngineError(
            f"There can be no sandbox here, and packages are built in nothing less: {why}.",
            hint="Build the package's wheel elsewhere, put it in a folder, and name that with --find-links.",
        ) from error
    status = None
    try:
        status = container.wait(timeout)
    finally:
        if status is None:
            container.stop()
    return Finished(status, container.logs())


def _hand_over(folder: Path) -> None:
    """Give a folder to the sandbox's user. Only root has to, and can: to others the sandbox's user is their own."""
    if os.geteuid() != 0:
        return
    os.chown(folder, NOBODY, NOBODY)
    for parent, directories, files in os.walk(folder):
        for name in (*directories, *files):
            os.chown(Path(parent, name), NOBODY, NOBODY, follow_symlinks=False)
