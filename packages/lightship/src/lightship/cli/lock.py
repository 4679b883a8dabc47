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
    from lightship.locking import bring_up_to_date, lock_path
    from lightship.oci import Platform
    from lightship.plan import make_plan

    display = Display(quiet, as_json)
    plan = make_plan(options.open_project(target, **chosen))
    platforms = [Platform.parse(text) for text in plan.platforms.value]
    with options.session(display, offline=offline) as session:
        locks = {
            lock_path(plan, platform): bring_up_to_date(plan, platform, session, locked=check, upgrade=upgrade)
            for platform in platforms
        }
    first = next(iter(locks.values()))
    if pylock:
        write_pylock(first.lock, pylock)
    if as_json:
        documents = [
            {
                "lock": str(path),
                "wheels": [{"name": wheel.name, "version": wheel.version} for wheel in locked.lock.wheels],
                "changes": list(locked.changes),
            }
            for path, locked in locks.items()
        ]
        display.document({**documents[0], **({"others": documents[1:]} if len(documents) > 1 else {})})
        return
    for path, locked in locks.items():
        for change in locked.changes:
            display.line(change)
        display.line(f"{path}: {len(locked.lock.wheels)} wheels" + ("" if locked.changes else ", unchanged"))
