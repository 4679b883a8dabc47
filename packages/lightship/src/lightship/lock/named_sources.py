"""Which of a project's requirements are sources, and what of this machine they name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightship.lock.requirements import RequirementsSource, read_toml
from lightship.lock.requirements_file import Line, normalised
from lightship.lock.sources import Source, source_of_line, source_of_table


def local_places(source: RequirementsSource, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The folders and source archives of this machine that requirements name; their content is what is locked."""
    if source.is_locked:
        entries = read_toml(source.path).get("package" if source.kind == "uv.lock" else "packages", [])
        return tuple(sorted({folder for each in entries for folder in _locked_folders(each, source)}))
    found = named_sources(source, environ).values()
    return tuple(
        sorted({Path(each.place) for each in found if each.kind != "git" and Path(each.place).is_absolute()})
    )


def named_sources(source: RequirementsSource, environ: Mapping[str, str]) -> dict[Line, Source]:
    """The requirements that are sources, by their line."""
    if source.is_locked:
        return {}
    found = {line: source_of_line(line, source.directory, environ) for line in source.lines if not line.is_option}
    if source.kind == "pyproject":
        settings = read_toml(source.path).get("tool", {}).get("uv", {})
        tables = {normalised(str(key)): table for key, table in settings.get("sources", {}).items()}
        members = _workspace(source.directory, settings)
        for line, known in found.items():
            table = tables.get(line.name or "")
            if known is None and isinstance(table, dict):
                found[line] = source_of_table(line.name or "", table, source.directory, line, members)
    return {line: each for line, each in found.items() if each is not None}


def _workspace(directory: Path, settings: Mapping[str, Any]) -> dict[str, Path]:
    """The members of a workspace whose root this project is, by normalised name."""
    members: dict[str, Path] = {}
    patterns = settings.get("workspace", {}).get("members", [])
    for pattern in patterns if isinstance(patterns, list) else ():
        for folder in sorted(directory.glob(str(pattern))):
            try:
                table = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(name := table.get("project", {}).get("name"), str):
                members[normalised(name)] = folder.resolve()
    return members


def _locked_folders(entry: object, source: RequirementsSource) -> Iterator[Path]:
    """The folder of a package in a uv.lock or pylock.toml, where it is of this machine."""
    if not isinstance(entry, dict):
        return
    for table in (entry.get("source"), entry.get("directory")):
        if not isinstance(table, dict):
            continue
        for key in ("directory", "editable", "path"):
            found = (source.directory / str(table[key])).resolve() if key in table else None
            # Not the project itself, which uv.lock lists and nobody installs.
            if found is not None and found.is_dir() and found != source.directory.resolve():
                yield found
