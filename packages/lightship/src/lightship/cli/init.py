"""`lightship init`."""

from __future__ import annotations

from pathlib import Path

import click

from lightship.cli import options
from lightship.cli.display import Display
from lightship.errors import ProjectError


@click.command()
@options.target
@click.option("--force", is_flag=True, help="Write over the file that is there.")
@options.output
def command(target: Path, force: bool, quiet: bool, as_json: bool) -> None:
    """Write a commented lightship.toml from what the folder holds.

    \b
    Examples:
      lightship init                        this folder
      lightship init models/model.joblib    beside that model
    """
    from lightship.project import SETTINGS_FILE, load_project
    from lightship.project.template import settings_template

    project = load_project(target)
    path = project.directory / SETTINGS_FILE
    if path.exists() and not force:
        raise ProjectError(f"{path} is there already.", hint="Add --force to write over it.")
    try:
        path.write_text(settings_template(project), encoding="utf-8")
    except OSError as error:
        raise ProjectError(f"Could not write {path}: {error.strerror}.") from error
    display = Display(quiet, as_json)
    if as_json:
        display.document({"written": str(path)})
    display.line(f"wrote {path}; `lightship plan` shows what follows from it")
