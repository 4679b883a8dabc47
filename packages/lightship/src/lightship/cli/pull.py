"""`lightship pull`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from lightship.cli import options
from lightship.cli.display import Display


@click.command()
@click.argument("name", metavar="REGISTRY/NAME:TAG")
@click.option("--layout", type=click.Path(path_type=Path), metavar="DIR", help="Also write an OCI layout.")
@click.option("--plain-http", is_flag=True, help="Speak to this registry without TLS.")
@options.platform
@options.output
def command(
    name: str, layout: Path | None, plain_http: bool, platform: str | None, quiet: bool, as_json: bool
) -> None:
    """Bring an image from a registry into the cache, byte for byte; layers that are there are not fetched again.

    \b
    Examples:
      lightship pull registry.example.org/team/iris:1                 then `lightship run` takes it by this name
      lightship pull registry.example.org/team/iris:1 --layout copy   and every tool of OCI layouts takes the copy
    """
    from lightship.oci import Reference, write_layout
    from lightship.oci.pull import pull_image
    from lightship.quantities import human_size

    display = Display(quiet, as_json)
    started = time.monotonic()
    with options.session(display) as session:
        reference = Reference.parse(name)
        pulled = pull_image(reference, session, options.parse_platform(platform), plain_http=plain_http)
        shown = f"{reference.name}:{reference.tag or 'latest'}"
        write_layout(pulled, session.cache, session.cache.image_path(shown), name=shown, sparse=True)
        if layout:
            write_layout(pulled, session.cache, layout, name=shown)
    seconds = time.monotonic() - started
    if as_json:
        display.document({"name": shown, "digest": pulled.digest, "size": pulled.size, "seconds": seconds})
        return
    display.line(f"pulled [bold]{shown}[/] for {pulled.platform}: {human_size(pulled.size)} in {seconds:.2f} s")
    display.line(f"digest [bold]{pulled.digest}[/]")
    if layout:
        display.line(f"wrote {layout}")
