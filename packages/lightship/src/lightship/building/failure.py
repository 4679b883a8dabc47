"""The error of a build that did not succeed."""

from __future__ import annotations

from lightship.errors import LockError

_SHOWN = 25  # lines of what the backend said last; a traceback with its cause fits


class SourceBuildError(LockError):
    """A package could not be built of its source."""


def last_lines(output: str) -> str:
    """The end of what a backend wrote, for people."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    return "\n".join(lines[-_SHOWN:])
