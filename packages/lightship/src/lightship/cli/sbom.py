"""`lightship sbom`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lightship.cli import options
from lightship.cli.display import Display


@click.command()
@options.project
@options.locking
@options.one_platform
@click.option(
    "--format",
    "kind",
    type=click.Choice(["spdx", "cyclonedx", "provenance"]),
    default="spdx",
    help="SPDX 2.3, CycloneDX 1.6, or the in-toto statement of how the image was built; JSON all.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there.")
@options.output
def command(
    target: Path,
    offline: bool,
    locked: bool,
    upgrade: bool,
    cache_from: tuple[str, ...],
    wanted: str | None,
    kind: str,
    output: Path | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Print the bill of materials of the image: every wheel, Debian package and file of weights, by hash.

    The image is built first, which is look-ups where it was built before. It is made from the lock and the image's
    own files, so it is exact, and the same for the same image, byte for byte.

    \b
    Examples:
      lightship sbom                              SPDX, to standard output
      lightship sbom --format cyclonedx -o bom.json
    """
    from lightship.build import build
    from lightship.supply import attachments

    display = Display(quiet, as_json)
    with options.session(display, offline=offline) as session:
        reused = options.parse_references(cache_from)
        built = build(
            options.open_project(target, **chosen), session, locked=locked, upgrade=upgrade, cache_from=reused
        )
        materials = options.materials_for(built, wanted)
        (artifact,) = attachments([kind], materials, session)
    content = artifact.contents[0].data
    if output is None:
        sys.stdout.buffer.write(content + b"\n")
        return
    options.write_file(output, content)
    if as_json:
        display.document({"file": str(output), "format": kind, "image": materials.image.digest, "size": len(content)})
    display.line(f"wrote {options.plain(str(output))}")
