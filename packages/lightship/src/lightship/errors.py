"""One hierarchy of errors for people: what happened, where, why, and what to do.

Every error that a user can cause or meet is a `LightshipError`. The command line renders it and exits with
its `exit_code`; a traceback that reaches a user is a bug. The codes are documented in docs/exit-codes.md.
"""

from __future__ import annotations


class LightshipError(Exception):
    """Base of all errors that are shown to a person.

    Args:
        message: What happened and where, in one or two sentences.
        hint: What to do about it; a command where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ProjectError(LightshipError):
    """The project cannot be read or contradicts itself: a wrong key, a missing model, a bad value."""

    exit_code = 2


class LockError(LightshipError):
    """The lock is stale or missing where it must be fresh, or requirements cannot be resolved."""

    exit_code = 3


class NetworkError(LightshipError):
    """Something that must be fetched cannot be reached, or has gone from where it was."""

    exit_code = 4


class IntegrityError(LightshipError):
    """Bytes do not match their hash or signature, or an archive breaks its format's rules."""

    exit_code = 5


class VerificationError(LightshipError):
    """The image was built but does not start, or does not give the golden answer."""

    exit_code = 6


class EngineError(LightshipError):
    """A container engine is missing or refused to work."""

    exit_code = 7


class StorageError(LightshipError):
    """The cache or an output cannot be written: disk full, read-only, no permission."""

    exit_code = 8


class VulnerabilityError(LightshipError):
    """The image holds known vulnerabilities that are as bad as `--fail-on` says, or that nobody has rated."""

    exit_code = 9
