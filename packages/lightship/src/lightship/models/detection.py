"""What a file or folder is: by its content first, then by its name."""

from __future__ import annotations

import stat
from pathlib import Path

from lightship.errors import ProjectError
from lightship.models.damage import readable
from lightship.models.model import Model, Opening
from lightship.models.registry import FORMATS

HEAD = 4096  # bytes of a file that formats are recognised by
_LFS_POINTER = b"version https://git-lfs"


def detect(path: Path) -> Model:
    """What the model at `path` is, without loading it.

    Raises:
        ProjectError: There is nothing, it cannot be read, it is empty or damaged, or it is no known format.
    """
    with readable(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _of_folder(path)
        if not stat.S_ISREG(mode):
            raise ProjectError(f"{path} is no plain file.", hint="Name a model file, or a folder with a model.")
        return _of_file(path)


def _of_file(path: Path) -> Model:
    opening = opened(path)
    if not opening.size:
        raise ProjectError(
            f"{path} is empty.", hint="Save the model again; an interrupted save or download leaves empty files."
        )
    if opening.head.startswith(_LFS_POINTER):
        raise ProjectError(
            f"{path} is a Git LFS pointer, not the model itself.", hint="Fetch the real file: git lfs pull"
        )
    for format_ in FORMATS:
        if format_.recognises(opening):
            return format_.read(path)
    for format_ in FORMATS:
        if format_.certain and path.name.lower().endswith(format_.suffixes):
            return format_.read(path)
    tried = ", ".join(format_.name for format_ in FORMATS)
    raise ProjectError(f"{path} is no model that Lightship knows. Tried: {tried}.", hint=_hint(opening))


def opened(path: Path) -> Opening:
    """The start of a file."""
    with path.open("rb", buffering=0) as file:
        head = file.read(HEAD)
        return Opening(path, head, file.seek(0, 2))


def _of_folder(path: Path) -> Model:
    raise ProjectError(f"{path} is a folder without a model.")


def _hint(opening: Opening) -> str:
    return "Write a Python file with load() and predict(), and name it in lightship.toml: [model] path."
