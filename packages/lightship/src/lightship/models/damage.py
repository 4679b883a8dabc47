"""The errors of files that are not what they claim to be, in one voice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightship.errors import ProjectError

COPY_AGAIN = "Copy or download the file again, or save the model again."


def damaged(path: Path, why: str, *, hint: str = COPY_AGAIN) -> ProjectError:
    """An error for a file whose content breaks its format's rules."""
    return ProjectError(f"{path} is damaged: {why}.", hint=hint)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into an error for people."""
    try:
        yield
    except OSError as error:
        raise ProjectError(
            f"{path} cannot be read: {error.strerror or error}.",
            hint="Check that it exists, is a plain file and that you may read it.",
        ) from None
