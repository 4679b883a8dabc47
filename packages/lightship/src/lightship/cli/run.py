"""`lightship run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightship.cli import options
from lightship.cli.display import Display
from lightship.cli.serving import serve_until_interrupted
from lightship.errors import ProjectError

if TYPE_CHECKING:
    from lightship.oci import Built
    from lightship.session import Session


@click.command()
@click.argument("image", metavar="NAME:TAG | oci:DIR")
@options.running
@options.platform
@click.option("-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable for the container.")
@click.option("--golden", type=click.Path(path_type=Path, exists=True), help="A golden request to ask first.")
@click.option("--health", default=None, metavar="PATH", help="The path that answers 200 when it is ready.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds to wait until it is ready.")
@click.option("--once", is_flag=True, help="Stop when it is ready instead of serving until Ctrl-C.")
@options.output
def command(
    image: str,
    engine: str,
    platform: str | None,
    port: int | None,
    variables: tuple[str, ...],
    golden: Path | None,
    health: str | None,
    timeout: float,
    once: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run an image that was built here, or one from an OCI layout, and wait until it is ready.

    \b
    Examples:
      lightship run iris:latest                     what `lightship build` built last
      lightship run iris:latest --engine embedded   with no container engine at all
      lightship run oci:path/to/layout -e LOG=1
    """
    from lightship.oci import Platform, image_for
    from lightship.run import RunOptions, choose, engines
    from lightship.verify import BRIEF, prove

    display = Display(quiet, as_json)
    with options.session(display) as session:
        found = image_for(find_image(image, session), options.parse_platform(platform) or Platform.of_this_machine())
        runner = choose(engines(session), None if engine == "auto" else engine)
        proof = prove(
            found,
            runner,
            session,
            golden=golden,
            health=health or "/health",
            timeout=timeout,
            options=RunOptions(port=port, environment=(*(BRIEF.environment if once else ()), *_pairs(variables))),
        )
    try:
        url = f"http://127.0.0.1:{proof.container.port}"
        if as_json:
            display.document(
                {
                    "image_id": found.config_digest,
                    "engine": runner.name,
                    "url": url,
                    "seconds_to_ready": proof.seconds_to_ready,
                    "proven": proof.golden,
                    "answer": proof.answer,
                }
            )
            sys.stdout.flush()
        display.line(f"ready after {proof.seconds_to_ready:.2f} s in {runner.name}: {url}")
        if not once:
            serve_until_interrupted(proof.container)
    finally:
        proof.container.stop()


def find_image(name: str, session: Session) -> Built:
    """What was built here by its name, or is in a layout, `oci:DIR`."""
    from lightship.oci import read_layout

    if name.startswith("oci:"):
        return read_layout(Path(name.removeprefix("oci:")), session)
    reference = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    layout = session.cache.image_path(reference)
    if not layout.is_dir():
        raise ProjectError(
            f"There is no image {reference} in the cache.",
            hint="Build it with `lightship build`, or name a layout: oci:DIR.",
        )
    return read_layout(layout, session)


def _pairs(variables: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for variable in variables:
        name, separator, value = variable.partition("=")
        if not separator or not name:
            raise click.UsageError(f"-e expects NAME=VALUE, got {variable!r}.")
        pairs.append((name, value))
    return tuple(pairs)
