"""`lightship diff`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from lightship.cli import options
from lightship.cli.display import Display
from lightship.quantities import human_size

if TYPE_CHECKING:
    from lightship.contents import Difference
    from lightship.contents.difference import FileChange

CHANGED = 1  # as diff(1) has it, with --exit-code
SHOWN = 10


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--files", "all_files", is_flag=True, help="List every file that changed.")
@click.option("--exit-code", is_flag=True, help="End with status 1 where the images differ.")
@options.platform
@options.output
def command(
    before: str, after: str, all_files: bool, exit_code: bool, platform: str | None, quiet: bool, as_json: bool
) -> None:
    """Show what changed from image A to image B, and what a node that has A must pull for B.

    A and B are named as for `lightship inspect`.

    \b
    Examples:
      lightship diff iris:1 iris:2
      lightship diff registry.example/team/iris:latest iris --files
    """
    from lightship.contents import compare, inspect_image, open_image

    display = Display(quiet, as_json)
    with options.session(display) as session:
        wanted = options.parse_platform(platform)
        old = inspect_image(open_image(before, session, wanted))
        new = inspect_image(open_image(after, session, wanted))
    found = compare(old, new)
    if as_json:
        display.document(found.to_dict(files=all_files))
    else:
        _show(display, found, all_files=all_files)
    if exit_code and not found.is_empty:
        raise SystemExit(CHANGED)


def _show(display: Display, found: Difference, *, all_files: bool) -> None:
    old, new = found.before, found.after
    display.line(
        f"[bold]{options.plain(old.name)}[/] → [bold]{options.plain(new.name)}[/]: "
        f"{human_size(old.unpacked_size)} → {human_size(new.unpacked_size)} unpacked"
    )
    if found.is_empty:
        display.line("the same content and settings")
        return
    pulled = f"{len(found.pulled)} of {len(new.layers)} layers" if found.pulled else "no layers"
    display.line(f"to pull: {human_size(found.pull_size)} ({pulled})")
    for layer in found.pulled:
        display.line(f"  {human_size(layer.size):>9}  {options.plain(f'{layer.kind} {layer.title}')}")
    _show_packages(display, found)
    if found.settings:
        display.line("settings")
    for setting in found.settings:
        values = f"{options.plain(setting.before) or 'none'} → {options.plain(setting.after) or 'none'}"
        display.line(f"  {options.plain(setting.name)}: {values}")
    _show_files(display, found, all_files=all_files)


def _show_packages(display: Display, found: Difference) -> None:
    from rich.table import Table

    if not found.packages:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("package", no_wrap=True)
    table.add_column("change", ratio=1)
    table.add_column("bytes", justify="right", no_wrap=True)
    for each in found.packages:
        versions = {
            "added": f"added {each.after}",
            "removed": f"removed {each.before}",
            "changed": f"{each.before} → {each.after}",
        }[each.change]
        table.add_row(options.plain(each.name), options.plain(versions), _signed(each.size_after - each.size_before))
    display.line()
    display.table(table)
    display.line()


def _show_files(display: Display, found: Difference, *, all_files: bool) -> None:
    counts = Counter(each.change for each in found.files)
    display.line(f"files: {counts['added']} added, {counts['removed']} removed, {counts['changed']} changed")
    largest = sorted(found.files, key=lambda each: -_moved(each))
    for each in found.files if all_files else largest[:SHOWN]:
        sign = {"added": "+", "removed": "-", "changed": "~"}[each.change]
        sizes = " → ".join(human_size(file.size) for file in (each.before, each.after) if file)
        display.wide_line(f"  {sign} /{options.plain(each.path)}  {sizes}")
    if len(largest) > SHOWN and not all_files:
        display.line(f"  and {len(largest) - SHOWN} more (--files lists them)")


def _moved(change: FileChange) -> int:
    """Bytes that came or went with a change."""
    return max(file.size for file in (change.before, change.after) if file)


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{human_size(abs(size))}"
