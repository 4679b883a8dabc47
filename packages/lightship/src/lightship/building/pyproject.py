"""What a source says of its build (PEP 517, PEP 518), read as data: nothing of it is run here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lightship.building.failure import SourceBuildError
from lightship.lock.requirements_file import normalised

LARGEST = 1 << 20  # bytes of a pyproject.toml
# What is meant where pyproject.toml is missing or has no build-backend (PEP 517, "Source trees").
_LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
_LEGACY_REQUIRES = ("setuptools>=40.8",)
# Backends that only ever collect Python files. setuptools compiles where there is something to compile; of any other
# it is assumed.
_PURE = ("flit_core", "hatchling", "pdm.backend", "poetry.core", "uv_build")
_SOMETIMES = ("setuptools",)
_COMPILED = frozenset(".c .cc .cpp .cxx .c++ .pyx .pxd .f .f90 .for .m .s .cu .rs".split())


@dataclass(frozen=True)
class BuildSystem:
    """How a source is built.

    Attributes:
        backend: Its import path, `module` or `module:object`.
        backend_path: Folders of the source where the backend lies, relative to it.
        requires: What must be installed for it (PEP 508).
        native: Whether a compiler is at hand.
    """

    backend: str
    backend_path: tuple[str, ...]
    requires: tuple[str, ...]
    native: bool


def read_build_system(folder: Path, title: str) -> BuildSystem:
    """The build system of an unpacked source.

    Raises: `SourceBuildError` where it is no source of a package, or says of its build what nobody understands.
    """
    table = _table(folder, title)
    if table is None and not (folder / "setup.py").is_file():
        raise SourceBuildError(
            f"{title}: there is neither a pyproject.toml nor a setup.py, so it is no source of a Python package.",
            hint="Does the package lie in a subdirectory? For git and archives, add #subdirectory=DIR to the URL.",
        )
    system = (table or {}).get("build-system", {})
    requires = system.get("requires", _LEGACY_REQUIRES) if isinstance(system, dict) else None
    backend = system.get("build-backend", _LEGACY_BACKEND) if isinstance(system, dict) else None
    inside = system.get("backend-path", []) if isinstance(system, dict) else None
    if not isinstance(backend, str) or not _texts(requires) or not _texts(inside):
        raise SourceBuildError(f"{title}: the [build-system] of its pyproject.toml is not of the form of PEP 518.")
    assert requires is not None and inside is not None
    for each in inside:
        if PurePosixPath(each).is_absolute() or ".." in PurePosixPath(each).parts:
            raise SourceBuildError(f"{title}: build-system.backend-path leads out of the source: {each!r}.")
    return BuildSystem(backend, tuple(inside), tuple(requires), _native(folder, backend, requires))


def _native(folder: Path, backend: str, requires: list[str]) -> bool:
    module = backend.partition(":")[0]
    named = {normalised(each.partition(";")[0].split("[")[0].strip(" <>=!~0123456789.,*")) for each in requires}
    if module.startswith(_PURE) and not any("cython" in name or "cffi" in name for name in named):
        return False
    if module.startswith(_SOMETIMES):
        return any(path.suffix.lower() in _COMPILED for path in _walk(folder))
    return True


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, files in os.walk(folder):
        yield from (Path(parent, name) for name in files)


def _table(folder: Path, title: str) -> dict[str, object] | None:
    path = folder / "pyproject.toml"
    if path.is_symlink() or not path.is_file():
        return None
    if path.stat().st_size > LARGEST:
        raise SourceBuildError(f"{title}: its pyproject.toml is larger than {LARGEST >> 20} MiB.")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceBuildError(f"{title}: its pyproject.toml is not valid TOML: {error}.") from error


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
