"""Turn parsed TOML into `Settings`, or into an error that names file, key, expectation and the nearest valid name."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from lightship.errors import ProjectError
from lightship.project.settings import Settings

PLATFORMS = ("linux/amd64", "linux/arm64")  # those with an assembled base and with wheels of nearly everything
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise ProjectError(f"Could not read {path}: {error.strerror}.") from error


def settings_from(table: dict[str, Any], source: str) -> Settings:
    """Validate the tables of `source`, which is `lightship.toml` or `pyproject.toml [tool.lightship]`."""
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise _explained(str(error), source) from None
    _check_platforms(settings.image.platforms, source)
    return settings


def _check_platforms(platforms: tuple[str, ...], source: str) -> None:
    for platform in platforms:
        if platform not in PLATFORMS:
            raise ProjectError(
                f"{source}: image.platforms: {platform!r} is no platform that images are built for.",
                hint=f"Known: {', '.join(PLATFORMS)}.",
            )
    if not platforms or len(set(platforms)) < len(platforms):
        raise ProjectError(f"{source}: image.platforms: expected at least one platform, and none of them twice.")


def _explained(message: str, source: str) -> ProjectError:
    match = _AT.match(message)
    assert match is not None  # the pattern matches every text
    what, path = match["what"], (match["path"] or "").lstrip(".")
    if unknown := _UNKNOWN.fullmatch(what):
        name = unknown["name"]
        key = f"{path}.{name}" if path else name
        return ProjectError(f"{source}: {key}: there is no such key.", hint=_nearest(key))
    expected = what.replace("`", "").replace("Expected ", "expected ").replace("Object missing", "missing")
    return ProjectError(f"{source}: {path or 'the file'}: {expected[0].lower()}{expected[1:]}.")


def _nearest(key: str) -> str:
    known = [name for name in known_keys() if name.count(".") == key.count(".")]
    table, _, last = key.rpartition(".")
    siblings = [name for name in known if name.rpartition(".")[0] == table]
    if near := difflib.get_close_matches(last, [name.rpartition(".")[2] for name in siblings], n=1):
        return f"Did you mean {f'{table}.{near[0]}' if table else near[0]}?"
    if elsewhere := [name for name in known_keys() if name.rpartition(".")[2] == last]:
        return f"Did you mean {elsewhere[0]}?"
    return f"Valid here: {', '.join(sorted(siblings))}."


def known_keys() -> tuple[str, ...]:
    """Every key that may be written, dotted: model, model.path, serve.port ..."""
    keys: list[str] = []
    for field in msgspec.structs.fields(Settings):
        keys.append(field.encode_name)
        table = type(Settings().base_table) if field.name == "base" else field.type
        keys.extend(f"{field.encode_name}.{inner.encode_name}" for inner in msgspec.structs.fields(table))
    return tuple(keys)
