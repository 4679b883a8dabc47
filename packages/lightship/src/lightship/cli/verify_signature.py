"""`lightship verify-signature`."""

from __future__ import annotations

from pathlib import Path

import click

from lightship.cli import options
from lightship.cli.display import Display


@click.command()
@click.argument("image", metavar="REGISTRY/NAME:TAG")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The public key that must have signed, such as cosign.pub.",
)
@click.option("--plain-http", is_flag=True, help="Speak to this registry without TLS.")
@options.output
def command(image: str, key: Path, plain_http: bool, quiet: bool, as_json: bool) -> None:
    """Check that an image in a registry is signed with a key; ends with exit code 5 where it is not.

    Prints the image pinned by the digest that was checked: run that, because a tag can move.

    \b
    Examples:
      lightship verify-signature registry.example.org/team/iris:1 --key cosign.pub
    """
    from lightship.oci import Reference
    from lightship.supply.cosign_keys import read_public_key
    from lightship.supply.signing import verify_signature

    display = Display(quiet, as_json)
    with options.session(display) as session:
        verified = verify_signature(Reference.parse(image), read_public_key(key), session, plain_http=plain_http)
    if as_json:
        display.document(
            {
                "reference": str(verified.reference),
                "digest": verified.digest,
                "signatures": [
                    {"reference": each.reference, "claims": dict(each.claims)} for each in verified.signatures
                ],
            }
        )
        return
    display.line(f"signed with {key}: [bold]{verified.reference}[/]")
    for each in verified.signatures:
        for name, value in each.claims:
            display.line(f"  {options.plain(name)}: {options.plain(value)}")
