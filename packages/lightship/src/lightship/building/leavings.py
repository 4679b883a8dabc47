"""Files that a sandbox left in its folder, opened without believing anything about them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lightship.building.failure import SourceBuildError

_LARGEST_RESULT = 1 << 20  # bytes of a result.json


@contextmanager
def open_left(folder: Path, name: str, title: str) -> Iterator[IO[bytes]]:
    """Open a plain file by its folder's descriptor: neither the folder nor the file may be a link to anywhere.

    Raises: `SourceBuildError` where there is no such file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        inside = os.open(folder, flags | os.O_DIRECTORY)
        try:
            descriptor = os.open(name, flags | os.O_NONBLOCK, dir_fd=inside)
        finally:
            os.close(inside)
    except OSError as error:
        raise SourceBuildError(f"{title}: the build ended well, but left no file {name}.") from error
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SourceBuildError(f"{title}: the build left something that is no file as {name}.")
        yield opened


def read_result(work: Path, title: str) -> dict[str, Any]:
    """What backend.py answered. Raises `SourceBuildError`."""
    with open_left(work, "result.json", title) as file:
        content = file.read(_LARGEST_RESULT)
    try:
        result = json.loads(content)
    except ValueError as error:
        raise SourceBuildError(f"{title}: the build left a result that is no JSON.") from error
    if not isinstance(result, dict):
        raise SourceBuildError(f"{title}: the build left a result of another form.")
    return result
