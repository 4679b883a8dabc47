"""`lightship build`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightship.cli import options
from lightship.cli.display import Display

if TYPE_CHECKING:
    from lightship.build import Build
    from lightship.layers.removed import Removed
    from lightship.oci import Image

_SHOWN = 6  # distributions in the line about pruning; --json has all


@click.command()
@options.project
@options.locking
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.tar", help="Also write one tar file.")
@click.option("--layout", type=click.Path(path_type=Path), metavar="DIR", help="Also write an OCI layout.")
@options.output
def command(
    target: Path,
    offline: bool,
    locked: bool,
    upgrade: bool,
    cache_from: tuple[str, ...],
    output: Path | None,
    layout: Path | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Build the image. It lies in the cache; -o and --layout write it elsewhere too.

    \b
    Examples:
      lightship build                      the project in this folder
      lightship build -o image.tar         for `docker load`, `podman load` and every OCI tool
      lightship build --locked --offline   in CI: from the lock and the cache, or not at all
    """
    from lightship.build import build
    from lightship.oci import write_archive, write_layout

    display = Display(quiet, as_json)
    project = options.open_project(target, **chosen)
    with options.session(display, offline=offline) as session:
        reused = options.parse_references(cache_from)
        built = build(project, session, locked=locked, upgrade=upgrade, cache_from=reused)
        for warning in built.plan.warnings:
            display.warn(warning)
        with built.phases.phase("write"):
            if output:
                write_archive(built.image, session.cache, output, name=built.reference, plain=built.plain_archive)
            if layout:
                write_layout(built.image, session.cache, layout, name=built.reference)
    if as_json:
        display.document(document(built))
        return
    show(display, built)
    if output:
        display.line(f"wrote {output}; load it with [bold]docker load -i {output}[/]")
    if layout:
        display.line(f"wrote {layout}")


def document(built: Build) -> dict[str, Any]:
    """The result of a build for machines: of the image, or of the first with all of them under `platforms`."""
    images = built.image.images
    documents = [_image_document(part.image, part.removed) for part in built.parts]
    several = {"platforms": {str(image.platform): each for image, each in zip(images, documents, strict=True)}}
    return {
        "name": built.reference,
        **documents[0],
        **(several if len(images) > 1 else {}),
        "digest": built.image.digest,
        "layout": str(built.layout),
        "seconds": dict(built.phases.items()),
        "lock_changes": list(built.lock_changes),
        "warnings": list(built.plan.warnings),
    }


def _measured(image: Image) -> bool:
    """Whether every unpacked size is known: those of a base that a push left in its registry may not be."""
    return all(layer.unpacked_size for layer in image.layers)


def _image_document(image: Image, removed: Sequence[Removed]) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "image_id": image.config_digest,
        "size": image.size,
        "unpacked_size": image.unpacked_size if _measured(image) else None,
        "layers": [
            {
                "kind": layer.kind,
                "title": layer.title,
                "digest": layer.digest,
                "size": layer.size,
                "unpacked_size": layer.unpacked_size or None,
                "from_cache": layer.from_cache,
            }
            for layer in image.layers
        ],
        "removed": [
            {
                "name": each.name,
                "version": each.version,
                "whole": each.whole,
                "bytes": each.size,
                "rules": {rule: {"files": files, "bytes": size} for rule, (files, size) in each.rules.items()},
            }
            for each in removed
        ],
    }


def show(display: Display, built: Build) -> None:
    """The result of a build for people: what the image is made of, and how long it took."""
    if display.quiet:  # the table's library takes longer to load than a build where nothing changed
        return
    several = len(built.parts) > 1
    for part in built.parts:
        _show_image(display, part.image, f"{built.reference} {part.image.platform}" if several else built.reference)
        if part.removed:
            display.line(_left_out(part.removed, built.plan.pruning.value))
    for change in built.lock_changes:
        display.line(f"lock: {change}")
    times = " · ".join(f"{name} {seconds:.2f} s" for name, seconds in built.phases.items() if seconds >= 0.005)
    display.line(f"[dim]{times}[/]")
    display.line(f"digest [bold]{built.image.digest}[/]")


def _show_image(display: Display, image: Image, title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from lightship.quantities import human_size

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("layer", style="bold")
    table.add_column("holds", overflow="ellipsis", no_wrap=True, max_width=60)
    table.add_column("to pull", justify="right")
    table.add_column("unpacked", justify="right")
    table.add_column("", style="dim")
    for layer in image.layers:
        origin = "cached" if layer.from_cache else "made now"
        unpacked = human_size(layer.unpacked_size) if layer.unpacked_size else "?"
        sizes = (human_size(layer.size), unpacked)
        table.add_row(layer.kind, Text(layer.title), *sizes, origin)
    totals = (human_size(image.size), human_size(image.unpacked_size) if _measured(image) else "?")
    table.add_row("image", f"{len(image.layers)} layers", *totals, "", style="bold")
    display.table(table)


def _left_out(removed: Sequence[Removed], level: str) -> str:
    """What pruning left out, in a line: how much, and where most of it was."""
    from lightship.quantities import human_size

    shown = [f"{each.name} {human_size(each.size)}{' (all of it)' * each.whole}" for each in removed[:_SHOWN]]
    if len(removed) > _SHOWN:
        shown.append(f"{len(removed) - _SHOWN} more")
    total = human_size(sum(each.size for each in removed))
    return f"left out (prune = {level}): {total} before bytecode: {', '.join(shown)}"
