"""A file of a repository, as the hub lists it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        path: In the repository.
        size: In bytes, as the hub says.
        sha256: As the hub says; None for small files, which it keeps in git.
    """

    path: str
    size: int
    sha256: str | None
