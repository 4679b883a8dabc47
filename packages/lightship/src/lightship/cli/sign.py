"""`lightship sign`."""

from __future__ import annotations

from pathlib import Path

import click

from lightship.cli import options
from lightship.cli.display import Display
from lightship.cli.password import password_from


@click.command()
@click.argument("image", metavar="REGISTRY/NAME:TAG")
@options.private_key
@click.option("--plain-http", is_flag=True, help="Speak to this registry without TLS.")
@options.output
def command(image: str, key: Path, plain_http: bool, quiet: bool, as_json: bool) -> None:
    """Sign an image in its registry, with a key of `lightship keygen` or `cosign generate-key-pair`.

    The signature lies beside the image, where cosign looks for it. What a tag names is signed by its digest; other
    signatures stay, and the same key does not sign twice. The password of the key is COSIGN_PASSWORD, or asked for.

    \b
    Examples:
      lightship sign registry.example.org/team/iris:1 --key cosign.key
    """
    from lightship.oci import Reference
    from lightship.supply.cosign_keys import read_private_key
    from lightship.supply.signing import sign_image

    display = Display(quiet, as_json)
    reference = Reference.parse(image)
    with options.session(display) as session:
        private = read_private_key(key, password_from(session.environ))
        signed = sign_image(reference, private, session, plain_http=plain_http)
    if as_json:
        display.document(
            {
                "reference": str(reference),
                "digest": signed.digest,
                "signatures": f"{reference.name}:{signed.tag}",
                "added": signed.added,
                "key": private.public.fingerprint,
            }
        )
        return
    told = "signed" if signed.added else "was signed with this key before:"
    display.line(f"{told} [bold]{reference}[/]")
    display.line(f"digest [bold]{signed.digest}[/]")
