"""A fetch of its own process, whose disk is full as soon as a file begins: `full_disk.py URL FOLDER full|small`."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightship.cache import Cache
from lightship.errors import LightshipError
from lightship.hub import HubReference, fetch
from lightship.progress import Silent, Task
from lightship.session import Session

LEFT = 100_000  # bytes that a file may still have, or that the disk has left


class Filling(Silent):
    """Somebody else who writes: all that the disk has but LEFT, before the first file comes."""

    def __init__(self, filler: Path) -> None:
        self.filler = filler

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        if not self.filler.exists():
            with self.filler.open("wb", buffering=0) as file:
                free = os.statvfs(self.filler.parent)
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - LEFT)
        with super().task(title, total) as task:
            yield task


def main(url: str, folder: str, kind: str) -> None:
    target = Path(folder)
    progress = Filling(target / "filler") if kind == "full" else Silent()
    session = Session(Cache(target / "cache"), progress, {"HF_ENDPOINT": url})
    if kind == "small":
        resource.setrlimit(resource.RLIMIT_FSIZE, (LEFT, LEFT))
    try:
        fetch(HubReference("org/name"), target / "model", session)
    except LightshipError as error:
        print(type(error).__name__, error.message, error.hint, sep="\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
