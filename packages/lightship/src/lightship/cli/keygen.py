"""`lightship keygen`."""

from __future__ import annotations

from pathlib import Path

import click

from lightship.cli import options
from lightship.cli.display import Display
from lightship.cli.password import password_from


@click.command()
@click.argument("prefix", type=click.Path(path_type=Path), default=Path("cosign"), metavar="[PREFIX]")
@options.output
def command(prefix: Path, quiet: bool, as_json: bool) -> None:
    """Make a pair of keys to sign with: PREFIX.key, encrypted with a password, and PREFIX.pub to give away.

    cosign reads them, and Lightship reads cosign's. The password is COSIGN_PASSWORD, or asked for; nothing is ever
    overwritten.

    \b
    Examples:
      lightship keygen           cosign.key and cosign.pub in this folder
      lightship keygen ~/keys/team
    """
    from lightship.supply.cosign_keys import generate_key, write_pair

    display = Display(quiet, as_json)
    with options.session(display) as session:
        pair = generate_key()
        private, public = write_pair(pair, password_from(session.environ, confirm=True)(), prefix)
    if as_json:
        display.document({"private": str(private), "public": str(public), "key": pair.public.fingerprint})
        return
    display.line(f"private key [bold]{private}[/], public key [bold]{public}[/]")
