"""What the outside world gives to a run: the cache, the listener, the environment, and how much to do at once.

Nothing deeper down reads `os.environ` or decides where the cache is; tests make a `Session` of their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightship.cache import Cache
from lightship.progress import Progress, Silent


@dataclass(frozen=True)
class Session:
    """The edges of one run of Lightship."""

    cache: Cache
    progress: Progress = field(default_factory=Silent)
    environ: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False
    jobs: int = 1

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, progress: Progress, offline: bool = False) -> Session:
        """The session of a real command: cache from LIGHTSHIP_CACHE, XDG_CACHE_HOME or ~/.cache."""
        return cls(
            cache=Cache(cache_directory(environ)),
            progress=progress,
            environ=environ,
            offline=offline,
            jobs=max(2, _cores()),
        )


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Where the cache lies, by the user's environment."""
    if chosen := environ.get("LIGHTSHIP_CACHE"):
        return Path(chosen).expanduser()
    if xdg := environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "lightship"
    return Path.home() / ".cache" / "lightship"


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux; elsewhere a process may use all of them
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
