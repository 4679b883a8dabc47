"""The releases of Debian that a base can be assembled from, and what follows from each one's name.

Known before anything is fetched, so that a plan can say it, and wheels can be resolved while the base is locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """A release of Debian: its codename, its number, and the minor versions of its Python and its C library."""

    codename: str
    number: str
    python: str
    glibc: tuple[int, int]

    @property
    def pretty_name(self) -> str:
        """What PRETTY_NAME of its os-release says."""
        return f"Debian GNU/Linux {self.number} ({self.codename})"


RELEASES: Mapping[str, Release] = {
    "bookworm": Release("bookworm", "12", "3.11", (2, 36)),
    "trixie": Release("trixie", "13", "3.13", (2, 41)),
}
