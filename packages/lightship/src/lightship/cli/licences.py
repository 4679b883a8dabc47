"""`lightship licences`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightship.cli import options
from lightship.cli.display import Display

if TYPE_CHECKING:
    from lightship.supply import Component, Inventory

_SHOWN = 4  # packages named in a line of the table; --json has all


@click.command()
@options.project
@options.locking
@options.one_platform
@options.output
def command(
    target: Path,
    offline: bool,
    locked: bool,
    upgrade: bool,
    cache_from: tuple[str, ...],
    wanted: str | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Show the licences of everything in the image, by what they ask: strong copyleft first, then what is unknown.

    They are what wheels and Debian packages state of themselves: an orientation, not legal advice. A Debian package
    names the licences of its whole source, of which the image may hold a part.

    \b
    Examples:
      lightship licences                  a table
      lightship licences --json           every package with its licence, and where it is stated
    """
    from lightship.build import build
    from lightship.supply import take_inventory

    display = Display(quiet, as_json)
    with options.session(display, offline=offline) as session:
        reused = options.parse_references(cache_from)
        built = build(
            options.open_project(target, **chosen), session, locked=locked, upgrade=upgrade, cache_from=reused
        )
        inventory = take_inventory(options.materials_for(built, wanted), session)
    if as_json:
        display.document(_document(inventory))
    else:
        _show(display, inventory)


def _document(inventory: Inventory) -> dict[str, Any]:
    families = inventory.families()
    return {
        "image": f"sha256:{inventory.image.sha256}",
        "families": {family.value: len(components) for family, components in families.items()},
        "packages": [
            {
                "kind": each.kind.value,
                "name": each.name,
                "version": each.version,
                "expression": each.licence.expression,
                "stated": each.licence.name,
                "source": each.licence.source,
                "family": family.value,
            }
            for family, components in families.items()
            for each in components
        ],
    }


def _show(display: Display, inventory: Inventory) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("family", style="bold", no_wrap=True)
    table.add_column("licence", overflow="ellipsis", no_wrap=True, max_width=44)
    table.add_column("packages", overflow="fold")
    counts = []
    for family, components in inventory.families().items():
        counts.append(f"{len(components)} {family}")
        by_licence: dict[str, list[Component]] = {}
        for component in components:
            by_licence.setdefault(component.licence.shown, []).append(component)
        for number, (licence, found) in enumerate(sorted(by_licence.items(), key=lambda each: -len(each[1]))):
            names = ", ".join(each.name for each in found[:_SHOWN])
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            table.add_row(family.value if number == 0 else "", Text(licence), Text(names + more))
    display.table(table)
    display.line(" · ".join(counts))
