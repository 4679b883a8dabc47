"""Where a project's requirements come from, in this order:

1. the file that `[python] requirements` names;
2. `uv.lock`: what `uv export` says of the project's own dependencies, without development groups;
3. `pylock.toml` (PEP 751);
4. `requirements.txt`;
5. `pyproject.toml`, `[project] dependencies`;
6. what the model needs, where there is no file at all.

The first two kinds of lock are taken as they are; from the others uv resolves.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lightship.errors import LockError, ProjectError
from lightship.lock.requirements_file import Line, check_needs_no_build, normalised, read_lines
from lightship.lock.target import Target

Kind = Literal["uv.lock", "pylock", "requirements", "pyproject", "list"]
RECIPE = 1  # part of every digest: raise it when the same requirements would now be locked differently
MAX_LOCK = 64 << 20  # bytes of a uv.lock or pylock.toml; large workspaces have a few MiB


@dataclass(frozen=True)
class RequirementsSource:
    """The requirements of a project.

    Attributes:
        kind: How they are written.
        path: The file; the project's folder for a plain list.
        requirements: The list (PEP 508), for the kind `list` only.
    """

    kind: Kind
    path: Path
    requirements: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """What relative paths in the requirements are relative to."""
        return self.path if self.kind == "list" else self.path.parent

    @property
    def is_locked(self) -> bool:
        """Whether versions and hashes are decided already, so that nothing is left to resolve."""
        return self.kind in ("uv.lock", "pylock")

    @property
    def title(self) -> str:
        """For people: the file's name."""
        return "the proposed requirements" if self.kind == "list" else self.path.name

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The single requirements and options; empty for the two kinds of lock.

        Raises: `ProjectError` where the file cannot be read.
        """
        if self.kind == "requirements":
            return tuple(read_lines(self.path))
        if self.kind == "pyproject":
            listed = _pyproject_dependencies(self.path, read_toml(self.path)) or ()
            return tuple(Line(f"{self.path.name}: project.dependencies", text) for text in listed)
        return tuple(Line(self.title, text) for text in self.requirements)

    @cached_property
    def digest(self) -> str:
        """Hash of all that matters in the requirements: comments, line ends and file names do not."""
        hashed = hashlib.sha256()
        if self.is_locked:
            hashed.update(_read(self.path).replace(b"\r\n", b"\n"))
        else:
            content = [[line.text, line.constraint] for line in self.lines]
            hashed.update(json.dumps(content).encode())
            if self.kind == "pyproject":
                settings = read_toml(self.path).get("tool", {}).get("uv", {})
                hashed.update(json.dumps(settings, sort_keys=True, default=str).encode())
        return f"sha256:{hashed.hexdigest()}"

    @property
    def hashes(self) -> dict[str, frozenset[str]]:
        """The sha256 that the requirements allow, by package; packages without an entry may have any."""
        found: dict[str, frozenset[str]] = {}
        for line in self.lines:
            if line.name and line.hashes:
                found[line.name] = found.get(line.name, frozenset()) | line.hashes
        return found


def find_requirements(directory: Path, explicit: str | None = None) -> RequirementsSource | None:
    """The requirements of the project in `directory`, in the documented order; None where there are none.

    Args:
        explicit: The value of `[python] requirements`, relative to the directory.
    """
    if explicit is not None:
        path = directory / explicit
        if not path.is_file():
            raise ProjectError(
                f"python.requirements: there is no file {path}.",
                hint="The path is relative to the project's folder.",
            )
        return RequirementsSource(_kind_of(path), path)
    for name in ("uv.lock", "pylock.toml", "requirements.txt", "pyproject.toml"):
        path = directory / name
        if not path.is_file():
            continue
        if name == "pyproject.toml" and _pyproject_dependencies(path, read_toml(path)) is None:
            continue
        return RequirementsSource(_kind_of(path), path)
    return None


def proposed_requirements(requirements: Sequence[str], directory: Path = Path()) -> RequirementsSource:
    """A plain list as the requirements, such as those read from a model; relative paths are the directory's."""
    return RequirementsSource("list", directory, tuple(requirements))


def requirements_input(
    source: RequirementsSource, extra: Sequence[str], target: Target, folders: Sequence[str] = ()
) -> str:
    """What the lock's wheels depend on, as one digest: `inputs.requirements` of the lock.

    `folders` are the digests of what the requirements name on this machine, in a fixed order.
    """
    parts = [
        RECIPE,
        source.kind,
        source.digest,
        sorted(extra),
        target.minor,
        target.platform,
        list(target.glibc),
        *([list(folders)] if folders else []),
    ]
    return f"sha256:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def pins(source: RequirementsSource) -> dict[str, str]:
    """The versions that the requirements fix, by normalised name, without resolving anything.

    Markers are not looked at: of several pins of one package the first counts.
    """
    found: dict[str, str] = {}
    if source.is_locked:
        packages = read_toml(source.path).get("package" if source.kind == "uv.lock" else "packages", [])
        entries = [entry for entry in packages if isinstance(entry, dict)] if isinstance(packages, list) else []
        pairs = [(entry.get("name"), entry.get("version")) for entry in entries]
    else:
        pairs = [line.pin or (None, None) for line in source.lines]
    for name, version in pairs:
        if isinstance(name, str) and isinstance(version, str):
            found.setdefault(name, version)
    return found


def required(source: RequirementsSource) -> dict[str, str]:
    """Every package that the requirements name, by normalised name, with its pin; '' for one that has none."""
    named = {line.name: "" for line in source.lines if line.name}
    return {**named, **pins(source)}


def check_supported(source: RequirementsSource) -> None:
    """Refuse, before a resolver runs, what would have to be built. Raises `LockError` naming the line."""
    for line in source.lines:
        if not line.is_option:
            check_needs_no_build(line)
    if source.kind != "pyproject":
        return
    table = read_toml(source.path)
    sources = table.get("tool", {}).get("uv", {}).get("sources", {})
    for line in source.lines:
        chosen = _entry(sources, line.name)
        if {"git", "workspace", "editable"} & chosen.keys() or not str(chosen.get("path", ".whl")).endswith(".whl"):
            raise LockError(
                f"{source.path}: tool.uv.sources: {line.name} comes from a source tree, which is not supported here.",
                hint="Build it with `uv build --wheel` and give the wheel's path there, or run `uv lock` without it.",
            )


def _entry(sources: object, name: str | None) -> Mapping[str, Any]:
    for key, value in sources.items() if isinstance(sources, dict) else ():
        if normalised(str(key)) == name and isinstance(value, dict):
            return value
    return {}


def _kind_of(path: Path) -> Kind:
    if path.name == "uv.lock":
        return "uv.lock"
    if path.name == "pyproject.toml":
        return "pyproject"
    return "pylock" if path.name.startswith("pylock") and path.suffix == ".toml" else "requirements"


def _pyproject_dependencies(path: Path, table: Mapping[str, Any]) -> tuple[str, ...] | None:
    project = table.get("project")
    if not isinstance(project, dict):
        return None
    if "dependencies" in project.get("dynamic", ()):
        raise LockError(
            f"{path}: project.dependencies is dynamic: only its build backend knows the dependencies.",
            hint="Run `uv lock`, or name a requirements file in `[python] requirements`.",
        )
    found = project.get("dependencies")
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ProjectError(f"{path}: project.dependencies: expected a list of strings.")
    return tuple(found)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file of the project. Raises `ProjectError`."""
    try:
        return tomllib.loads(_read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} is not valid TOML: {error}.") from error


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_LOCK:
            raise ProjectError(f"{path} is larger than {MAX_LOCK >> 20} MiB.")
        return path.read_bytes()
    except OSError as error:
        raise ProjectError(f"Could not read {path}: {error.strerror}.") from error
