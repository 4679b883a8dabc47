"""A folder as a source: the files of it that count, their digest, and a copy of just these.

Which files count is what an image of the folder would hold (version control, caches, environments, secrets and what
.lightshipignore or .dockerignore names are left out), and besides them what builds are described in.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from lightship.cache import file_digest, storing
from lightship.errors import ProjectError
from lightship.project.context import ContextFile, read_context

# An image's context leaves these out; a build backend reads them, .gitignore included (hatchling does).
_DESCRIPTIONS = ("**/pyproject.toml", "**/requirements*.txt", "**/Makefile", "**/.gitignore")
LARGEST = 10 << 20  # bytes; a larger file is a model or data beside the package, whose hash would be paid every time
_FILES = 50_000  # a package with more is a mistake, such as a home directory


def folder_digest(folder: Path) -> str:
    """The sha256 (hex) of a folder's files: their paths, whether they can be executed, their bytes.

    Raises: `ProjectError` where it is no folder, or holds too much.
    """
    hashed = hashlib.sha256()
    for file in _files(folder):
        mode = "x" if file.executable else "-"
        hashed.update(f"{mode} {file_digest(file.source)} {file.path}\0".encode("utf-8", "surrogateescape"))
    return hashed.hexdigest()


def copy_folder(folder: Path, target: Path) -> None:
    """Copy the files that count into a directory that does not exist yet."""
    with storing(target):
        target.mkdir()
        for file in _files(folder):
            place = target / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.source, place)
            place.chmod(0o755 if file.executable else 0o644)


def _files(folder: Path) -> Iterator[ContextFile]:
    if not folder.is_dir():
        raise ProjectError(f"There is no folder {folder}, which the requirements name.")
    # What earlier builds left lies in these, unless they are packages of that name.
    left = [name for name in ("build", "dist") if not (folder / name / "__init__.py").is_file()]
    files = read_context(folder, include=_DESCRIPTIONS, exclude=left).files
    if len(files) > _FILES:
        raise ProjectError(
            f"{folder} has {len(files)} files, which is too much to build a package of.",
            hint="Name the package's own folder, or leave files out by a .lightshipignore in it.",
        )
    return (file for file in files if file.size < LARGEST)
