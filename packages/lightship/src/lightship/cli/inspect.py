"""`lightship inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lightship.cli import options
from lightship.cli.display import Display
from lightship.quantities import human_size

if TYPE_CHECKING:
    from lightship.contents import Inspection
    from lightship.contents.inspection import OwnedFile

HEAVIEST = 10
SHOWN = 5  # of each list; --files and --json have all


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option("--files", "all_files", is_flag=True, help="List every file with its size and who brought it.")
@options.platform
@options.output
def command(image: str, all_files: bool, platform: str | None, quiet: bool, as_json: bool) -> None:
    """Show what an image holds: layers, packages, wasted bytes, settings, files to look at twice.

    IMAGE is a name in the cache, oci:DIR, an archive (OCI or docker-archive), docker:NAME, or REGISTRY/NAME:TAG. Each
    layer is read once and verified; nothing is unpacked or run.

    \b
    Examples:
      lightship inspect iris
      lightship inspect image.tar --files
      lightship inspect docker:python:3.12-slim --json
    """
    from lightship.contents import inspect_image, open_image

    display = Display(quiet, as_json)
    with options.session(display) as session:
        found = inspect_image(open_image(image, session, options.parse_platform(platform)))
    if as_json:
        display.document(found.to_dict(files=all_files))
        return
    _show_summary(display, found)
    _show_layers(display, found)
    _show_packages(display, found)
    _show_waste(display, found)
    _show_suspects(display, found)
    if all_files:
        _show_files(display, found)


def _show_summary(display: Display, image: Inspection) -> None:
    settings = image.settings
    facts = {
        "digest": image.digest or "none (the archive has no manifest)",
        "image ID": image.config_digest,
        "platform": image.platform,
        "to pull": f"{human_size(image.size)}, {human_size(image.unpacked_size)} unpacked",
        "user": settings.user or "root",
        "entrypoint": " ".join(settings.entrypoint),
        "command": " ".join(settings.command),
        "directory": settings.working_directory,
        "ports": " ".join(settings.ports),
        "volumes": " ".join(settings.volumes),
        "variables": " ".join(name for name, _ in settings.environment),
        "health": " ".join(settings.healthcheck),
        **{f"label {name}": value for name, value in settings.labels},
        **{f"note {name}": value for name, value in image.annotations},
    }
    display.line(f"[bold]{options.plain(image.name)}[/]")
    for name, value in facts.items():
        if value:
            display.line(f"  {options.plain(name):<10} {options.plain(value)}")


def _show_layers(display: Display, image: Inspection) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("layer")
    table.add_column("holds", ratio=1, no_wrap=True, overflow="ellipsis")
    for title in ("to pull", "unpacked", "files"):
        table.add_column(title, justify="right", no_wrap=True)
    for number, layer in enumerate(image.layers, 1):
        sizes = (human_size(layer.size), human_size(layer.unpacked_size), f"{layer.files}")
        table.add_row(f"{number}", options.plain(layer.kind), options.plain(layer.title), *sizes)
    display.line()
    display.table(table)


def _show_packages(display: Display, image: Inspection) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("heaviest", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("brought by")
    table.add_column("files", justify="right")
    table.add_column("bytes", justify="right", no_wrap=True)
    for each in image.packages[:HEAVIEST]:
        name = f"{each.owner.name} {each.owner.version}".strip()
        table.add_row(options.plain(name), each.owner.kind, f"{each.files}", human_size(each.size))
    rest = image.packages[HEAVIEST:]
    if rest:
        files, size = sum(each.files for each in rest), sum(each.size for each in rest)
        table.add_row(f"{len(rest)} others", "", f"{files}", human_size(size))
    display.line()
    display.table(table)


def _show_waste(display: Display, image: Inspection) -> None:
    waste = image.waste
    display.line()
    display.line(
        f"efficiency {waste.efficiency:.1%}: {human_size(waste.buried_size)} hidden by later layers, "
        f"{human_size(waste.duplicate_size)} in files that are there twice"
    )
    for buried in waste.buried[:SHOWN]:
        place = f"layer {buried.layer + 1}, {buried.why} by layer {buried.by_layer + 1}"
        display.line(f"  {human_size(buried.size):>9}  /{options.plain(buried.path)} ({place})")
    _and_more(display, len(waste.buried))
    for duplicate in waste.duplicates[:SHOWN]:
        paths = " = ".join(f"/{options.plain(path)}" for path in duplicate.paths[:SHOWN])
        more = f" and {len(duplicate.paths) - SHOWN} more" if len(duplicate.paths) > SHOWN else ""
        display.line(f"  {human_size(duplicate.wasted):>9}  {paths}{more}")
    _and_more(display, len(waste.duplicates))


def _show_suspects(display: Display, image: Inspection) -> None:
    for title, files in (
        ("setuid or setgid", image.set_id),
        ("writable by all", image.world_writable),
        ("not of root", image.not_of_root),
    ):
        display.line(f"{title:<17} {_listed(files)}")


def _listed(files: Sequence[OwnedFile]) -> str:
    if not files:
        return "none"
    shown = ", ".join(f"/{options.plain(file.path)} ({_rights(file)})" for file in files[:SHOWN])
    return shown + (f" and {len(files) - SHOWN} more" if len(files) > SHOWN else "")


def _rights(file: OwnedFile) -> str:
    return f"{file.mode:04o} {file.uid}:{file.gid}"


def _show_files(display: Display, image: Inspection) -> None:
    display.line()
    for file in image.files:
        owner = options.plain(f"{file.owner.kind} {file.owner.name} {file.owner.version}".strip())
        display.wide_line(
            f"{file.size:>12} {file.mode:04o} {file.uid}:{file.gid} /{options.plain(file.path)}  [dim]{owner}[/]"
        )


def _and_more(display: Display, count: int) -> None:
    if count > SHOWN:
        display.line(f"             and {count - SHOWN} more (--json lists them)")
