"""`lightship cache`."""

from __future__ import annotations

import os
import re

import click

from lightship.cache import Cache
from lightship.cli import options
from lightship.cli.display import Display
from lightship.errors import IntegrityError
from lightship.quantities import human_size
from lightship.session import cache_directory

_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)([hdw])", value)
    if not match:
        raise click.BadParameter("expected a number and h, d or w, such as 30d")
    return int(match[1]) * float(_SECONDS[match[2]])


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)\s*([kmg]?)b?", value.lower())
    if not match:
        raise click.BadParameter("expected a size such as 20GB")
    return int(match[1]) * _BYTES[match[2]]


@click.group()
def command() -> None:
    """Show the cache, or make it smaller. Everything in it can be made or fetched again."""


@command.command("dir")
def directory() -> None:
    """Print where the cache is (LIGHTSHIP_CACHE moves it)."""
    click.echo(cache_directory(os.environ))


@command.command("ls")
@options.output
def list_entries(quiet: bool, as_json: bool) -> None:
    """Show what the cache holds, by kind."""
    cache = Cache(cache_directory(os.environ))
    kinds: dict[str, list[int]] = {"blob": [], "tree": [], "image": []}
    for entry in cache.entries():
        kinds[entry.kind].append(entry.size)
    display = Display(quiet, as_json)
    if as_json:
        totals = {kind: {"count": len(sizes), "bytes": sum(sizes)} for kind, sizes in kinds.items()}
        display.document({"directory": str(cache.directory), "kinds": totals})
        return
    display.line(f"{cache.directory}")
    for kind, sizes in kinds.items():
        display.line(f"{len(sizes):6} {kind + 's':8} {human_size(sum(sizes)):>10}")


@command.command()
@click.option("--unused-for", metavar="AGE", callback=_age, help="Remove what was not used for 30d, 2w, 12h ...")
@click.option("--keep", metavar="SIZE", callback=_size, help="Remove the least recently used until SIZE is left.")
@click.option("--all", "everything", is_flag=True, help="Remove everything.")
@options.output
def prune(unused_for: float | None, keep: int | None, everything: bool, quiet: bool, as_json: bool) -> None:
    """Make the cache smaller. What running containers of the embedded engine use stays.

    \b
    Examples:
      lightship cache prune --unused-for 30d
      lightship cache prune --keep 20GB
      lightship cache prune --all
    """
    if sum((unused_for is not None, keep is not None, everything)) != 1:
        raise click.UsageError("Choose one of --unused-for, --keep and --all.")
    cache = Cache(cache_directory(os.environ))
    removed, freed = cache.prune(unused_for=unused_for or 0.0, keep_bytes=keep)
    display = Display(quiet, as_json)
    if as_json:
        display.document({"removed": removed, "bytes": freed})
    display.line(f"removed {removed} entries, {human_size(freed)}")


@command.command()
@options.output
def verify(quiet: bool, as_json: bool) -> None:
    """Read every blob again; remove those that are not what their name says.

    What is removed is made or fetched anew when it is needed. Ends with status 5 where something was damaged.
    """
    cache = Cache(cache_directory(os.environ))
    total = sum(entry.size for entry in cache.entries() if entry.kind == "blob")
    display = Display(quiet, as_json)
    with display.progress() as progress, progress.task("Verifying the cache", total) as task:
        damaged = cache.damaged_blobs(task.advance)
    for path in damaged:
        path.unlink(missing_ok=True)
    if as_json:
        display.document({"bytes": total, "damaged": [path.name for path in damaged]})
    display.line(f"read {human_size(total)}; {len(damaged)} damaged blobs were removed")
    if damaged:
        raise SystemExit(IntegrityError.exit_code)
