"""Why a server does not start, for people: what, where, and what to do. Requests have their own errors (payload)."""

from __future__ import annotations


class StartError(Exception):
    """The server cannot start. `exit_code` becomes the container's exit status."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(StartError):
    """The configuration is missing, malformed or contradicts itself."""

    exit_code = 2


class IntegrityError(StartError):
    """A file is not the one that the image was built with."""

    exit_code = 5


class GoldenMismatch(StartError):
    """The model loads, but does not give the golden answer."""

    exit_code = 6


class CrashLoop(StartError):
    """The processes that predict keep ending."""

    exit_code = 7
