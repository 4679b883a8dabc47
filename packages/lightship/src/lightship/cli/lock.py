"""`lightship lock`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lightship.cli import options
from lightship.cli.display import Display


@click.command()
@options.project
@click.option("--upgrade", is_flag=True, help="Take the newest versions, of the wheels and of the base.")
@click.option("--check", is_flag=True, help="Write nothing; fail where the lock is stale.")
@click.option("--pylock", type=click.Path(path_type=Path), metavar="FILE", help="Also write a PEP 751 pylock.toml.")
@options.output
def command(
    target: Path,
    offline: bool,
    upgrade: bool,
    check: bool,
    pylock: Path | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Resolve and write lightship.lock: every wheel and every package of the base, with size and hash.

    \b
    Examples:
      lightship lock               keeps the versions that are locked already
      lightship lock --upgrade     takes the newest ones
      lightship lock --check       in CI: fails where the lock no longer fits the project
    """
    from lightship.lock import write_pylock
    from lightship.locking import bring_up_to_date
    from lightship.plan import make_plan

    display = Display(quiet, as_json)
    project = options.open_project(target, **chosen)
    with options.session(display, offline=offline) as session:
        locked = bring_up_to_date(make_plan(project), session, locked=check, upgrade=upgrade)
    if pylock:
        write_pylock(locked.lock, pylock)
    if as_json:
        wheels = [{"name": wheel.name, "version": wheel.version} for wheel in locked.lock.wheels]
        display.document({"lock": str(project.lock_path), "wheels": wheels, "changes": list(locked.changes)})
        return
    for change in locked.changes:
        display.line(change)
    display.line(f"{project.lock_path}: {len(locked.lock.wheels)} wheels" + ("" if locked.changes else ", unchanged"))
