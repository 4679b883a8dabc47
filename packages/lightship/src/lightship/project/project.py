"""A `Project`: a folder, its settings, and what in it is to be served. Read once, immutable from then on.

Where settings come from, first match wins: `lightship.toml`; `[tool.lightship]` in `pyproject.toml`; nothing at all.
What is served: `[serve] app`; else `[model] path`; else an application found in serve.py and the like; else the one
model found in the folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from lightship.errors import ProjectError
from lightship.project.entry import find_application, find_entry
from lightship.project.settings import OptimizeTable, Settings
from lightship.project.validate import read_toml, settings_from

SETTINGS_FILE = "lightship.toml"
LOCK_FILE = "lightship.lock"
GOLDEN_FILE = "golden.json"


@dataclass(frozen=True)
class Project:
    """What the user gave us.

    Attributes:
        directory: The project's folder, absolute.
        settings: The validated settings, with what the command line overrode.
        source: Where the settings came from, for messages; None where there is no settings file.
        name: The image's name.
        model: The model file or folder to serve, absolute; None where the user brings a whole server.
        app: The user's server, `serve:app`; None where Lightship serves the model.
        app_reason: How `app` was found.
        converts: Whether a model may be served in another form than its own.
    """

    directory: Path
    settings: Settings
    source: str | None
    name: str
    model: Path | None
    app: str | None
    app_reason: str = ""
    converts: bool = True

    @property
    def lock_path(self) -> Path:
        return self.directory / LOCK_FILE

    @property
    def as_it_is(self) -> Project:
        """The same with the model in its own form, whatever is best for images."""
        settings = msgspec.structs.replace(self.settings, optimize=OptimizeTable())
        return replace(self, settings=settings, converts=False)

    @property
    def golden(self) -> Path | None:
        """The golden request and answer, where there are any."""
        if chosen := self.settings.test.golden:
            path = self.directory / chosen
            if not path.is_file():
                raise ProjectError(f"{self.source}: test.golden: there is no file {path}.")
            return path
        path = self.directory / GOLDEN_FILE
        return path if path.is_file() else None


def load_project(target: Path, overrides: Mapping[str, Any] | None = None) -> Project:
    """The project at `target`: a folder, a settings file, a model file, or a Python file that makes an application.

    `overrides` are settings from the command line, as nested tables, which win over the file's.
    """
    if target.parts[:1] == ("hf:",):
        raise ProjectError(
            f"A model on a hub is fetched first, then built: {'/'.join(target.parts)}.",
            hint=f"Run `lightship fetch hf://{'/'.join(target.parts[1:])}`.",
        )
    target = target.absolute()
    if not target.exists():
        raise ProjectError(f"There is no {target}.", hint="Name a project folder, a model file or a serve.py.")
    directory, named = _directory_and_named(target)
    table, source = _settings_table(directory)
    settings = settings_from(_merged(table, dict(overrides or {})), source or "the command line")
    model, app, reason = _served(directory, settings, source, named)
    return Project(
        directory=directory,
        settings=settings,
        source=source,
        name=_image_name(settings, directory, model if named and source is None else None),
        model=model,
        app=app,
        app_reason=reason,
    )


def read_settings(directory: Path) -> tuple[Settings, str | None]:
    """The settings of a folder, and where they stand; the defaults and None where there are none, or no folder."""
    table, source = _settings_table(directory)
    return settings_from(table, source or "the command line"), source


def _directory_and_named(target: Path) -> tuple[Path, Path | None]:
    if target.is_file():
        return target.parent, None if target.name in (SETTINGS_FILE, "pyproject.toml") else target
    if _is_model_folder(target):
        return target.parent, target
    return target, None


def _is_model_folder(directory: Path) -> bool:
    """A folder of Hugging Face or ONNX Runtime GenAI named directly is a model, not a project."""
    configs = ("config.json", "genai_config.json")
    return any((directory / name).is_file() for name in configs) and not (directory / SETTINGS_FILE).exists()


def _settings_table(directory: Path) -> tuple[dict[str, Any], str | None]:
    own = directory / SETTINGS_FILE
    if own.is_file():
        return read_toml(own), str(own)
    shared = directory / "pyproject.toml"
    if shared.is_file():
        table = read_toml(shared).get("tool", {}).get("lightship")
        if isinstance(table, dict):
            return table, f"{shared} [tool.lightship]"
    return {}, None


def _merged(table: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = dict(table)
    for key, value in overrides.items():
        below = merged.get(key)
        if key == "base" and isinstance(below, str):
            below = {"image": below}
        if isinstance(value, dict) and isinstance(below, dict | None):
            merged[key] = _merged(below or {}, value)
        else:
            merged[key] = value
    return merged


def _served(
    directory: Path, settings: Settings, source: str | None, named: Path | None
) -> tuple[Path | None, str | None, str]:
    if named is not None:
        if named.suffix == ".py" and (found := find_application(named)):
            return None, str(found), f"{named.name} makes a {found.framework} application"
        return named, None, ""
    if app := settings.serve.app:
        _check_app(app, directory, source)
        return None, app, "[serve] app names it"
    if path := settings.model.path:
        model = directory / path
        if not model.exists():
            raise ProjectError(
                f"{source or 'the command line'}: model.path: there is no {model}.",
                hint="Train or fetch the model first, or correct the path; it is relative to the project's folder.",
            )
        if not model.resolve().is_relative_to(directory.resolve()):
            raise ProjectError(
                f"{source or 'the command line'}: model.path: {model} is outside the project's folder.",
                hint="Copy it into the folder; what an image is made from lies in one place.",
            )
        return model, None, ""
    if found := find_entry(directory):
        return None, str(found), f"{found.module}.py makes a {found.framework} application"
    from lightship.models import find

    return find(directory), None, ""


def _check_app(app: str, directory: Path, source: str | None) -> None:
    module, _, name = app.partition(":")
    where = f"{source or 'the command line'}: serve.app"
    if not name or not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        raise ProjectError(f"{where}: expected MODULE:NAME such as serve:app, got {app!r}.")
    file = directory / (module.replace(".", "/") + ".py")
    package = directory / module.replace(".", "/") / "__init__.py"
    if not file.is_file() and not package.is_file():
        raise ProjectError(f"{where}: there is no {file}.", hint="The module is looked for in the project's folder.")


def _image_name(settings: Settings, directory: Path, model: Path | None) -> str:
    """A name that every registry takes: lower case letters, digits and single dashes."""
    if chosen := settings.image.name:
        if not re.fullmatch(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", chosen):
            raise ProjectError(
                f"image.name: {chosen!r} is no image name: use lower case letters, digits, - . _ and /."
            )
        return chosen
    raw = (model.stem if model else directory.name).lower()
    return re.sub(r"[^a-z0-9]+", "-", raw).strip("-") or "model"
