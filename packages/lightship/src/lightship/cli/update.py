"""`lightship update`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lightship.cli import options
from lightship.cli.display import Display


@click.command()
@options.project
@click.option("--wheels", is_flag=True, help="Move the wheels instead, and leave the base.")
@options.output
def command(target: Path, offline: bool, wheels: bool, quiet: bool, as_json: bool, **chosen: Any) -> None:
    """Move the base that lightship.lock pins to the newest one, without touching a wheel, and say what changed.

    For a base of Debian packages those are the newest that its release has, security updates included; for a base
    from a registry it is what its tag names now.

    \b
    Examples:
      lightship update             the base: run it each week, commit the lock
      lightship update --wheels    the wheels, as far as the requirements allow
      lightship lock --upgrade     both, and where another Python comes with the base
    """
    from lightship.locking import lock_path, move_base, move_wheels
    from lightship.oci import Platform
    from lightship.plan import make_plan

    display = Display(quiet, as_json)
    plan = make_plan(options.open_project(target, **chosen))
    move = move_wheels if wheels else move_base
    with options.session(display, offline=offline) as session:
        platforms = [Platform.parse(text) for text in plan.platforms.value]
        moved = {lock_path(plan, platform): move(plan, platform, session) for platform in platforms}
    if as_json:
        documents = [{"lock": str(path), "changes": list(locked.changes)} for path, locked in moved.items()]
        display.document({**documents[0], **({"others": documents[1:]} if len(documents) > 1 else {})})
        return
    for path, locked in moved.items():
        for change in locked.changes:
            display.line(options.plain(change))
        display.line(f"{path}: " + (f"{len(locked.changes)} changes" if locked.changes else "unchanged"))
