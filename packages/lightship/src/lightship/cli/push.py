"""`lightship push`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightship.cli import options
from lightship.cli.display import Display

if TYPE_CHECKING:
    from lightship.oci import Reference
    from lightship.oci.artifact import Artifact
    from lightship.oci.referrers import Attached
    from lightship.session import Session
    from lightship.supply.cosign_keys import PrivateKey


@click.command()
@click.argument("destination", metavar="REGISTRY/NAME[:TAG]")
@options.project
@options.locking
@click.option("--image", metavar="NAME:TAG | oci:DIR", help="Push what was built before; build nothing.")
@click.option(
    "--attach",
    metavar="LIST",
    default="",
    help="Documents to attach: sbom (SPDX), cyclonedx, provenance; commas between. Nothing, unless asked.",
)
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Sign what was pushed with this private key, as `lightship sign` does.",
)
@click.option("--plain-http", is_flag=True, help="Speak to this registry without TLS.")
@options.output
def command(
    destination: str,
    target: Path,
    offline: bool,
    locked: bool,
    upgrade: bool,
    cache_from: tuple[str, ...],
    image: str | None,
    attach: str,
    sign_key: Path | None,
    plain_http: bool,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Build the image and bring it into a registry. What the registry has already is not sent again.

    \b
    Examples:
      lightship push registry.example.org/team/iris:1                 the project in this folder
      lightship push registry.example.org/team/iris:1 examples/iris   the project in that folder
      lightship push localhost:5000/iris --image iris:latest          what was built before, as it is
      lightship push REGISTRY/iris:2 --cache-from REGISTRY/iris:1     in CI: nothing is made that is there
      lightship push localhost:5000/iris --attach sbom,provenance     with documents that refer to the image
      lightship push localhost:5000/iris --sign-key cosign.key        signed as well

    Accounts are those of `docker login` and `podman login`. Plain HTTP is spoken to this machine only, or as told.
    """
    from lightship.cli.run import find_image

    reference = _destination(destination)
    if image is not None and (target != Path() or locked or upgrade or cache_from or any(chosen.values())):
        raise click.UsageError("--image pushes what was built before; it takes no project and no options of one.")
    kinds = _kinds(attach)
    if image is not None and kinds:
        raise click.UsageError(
            "--attach needs the lock: push the project rather than --image; it is built in no time."
        )
    display = Display(quiet, as_json)
    with options.session(display, offline=offline) as session:
        private = _private_key(sign_key, session)  # before anything is built: a wrong password is told at once
        document: dict[str, Any] = {}
        artifacts: tuple[Artifact, ...] = ()
        if image is not None:
            found = find_image(image, session)
        else:
            from lightship.build import build
            from lightship.cli.build import document as build_document

            built = build(
                options.open_project(target, **chosen),
                session,
                locked=locked,
                upgrade=upgrade,
                cache_from=options.parse_references(cache_from),
                plain_http=plain_http,
                whole=False,
            )
            for warning in built.plan.warnings:
                display.warn(warning)
            found, document = built.image, build_document(built)
            if kinds:
                from lightship.supply import attachments

                artifacts = tuple(
                    artifact for each in built.materials for artifact in attachments(kinds, each, session)
                )
        from lightship.oci.push import push_image  # after the build: loading HTTP takes as long as a build of nothing

        started = time.monotonic()
        pushed = push_image(found, reference, session, plain_http=plain_http)
        attached: tuple[Attached, ...] = ()
        if artifacts:
            from lightship.oci.referrers import attach as attach_all

            attached = attach_all(artifacts, reference, session, plain_http=plain_http)
        if private is not None:
            from lightship.supply.signing import sign_image

            sign_image(reference.at(pushed.digest), private, session, plain_http=plain_http)
        seconds = time.monotonic() - started
    counts = {outcome.value: pushed.count(outcome) for outcome in dict.fromkeys(pushed.blobs.values())}
    if as_json:
        display.document(
            {
                **document,
                "reference": str(reference),
                "digest": pushed.digest,
                "blobs": counts,
                "sent_bytes": pushed.sent_bytes,
                "seconds_to_push": seconds,
                "attached": [_described(each) for each in attached],
                "signed_with": private.public.fingerprint if private else None,
            }
        )
        return
    from lightship.quantities import human_size

    told = ", ".join(f"{count} {_WORDS[name]}" for name, count in counts.items())
    display.line(f"pushed [bold]{reference}[/]: {human_size(pushed.sent_bytes)} in {seconds:.2f} s ({told})")
    display.line(f"digest [bold]{pushed.digest}[/]{', signed' if private else ''}")
    for each in attached:
        told = "there already" if each.way == "there" else f"{human_size(each.sent_bytes)}, by the {each.way}"
        display.wide_line(f"attached {each.artifact.artifact_type} {each.artifact.digest} ({told})")


def _kinds(text: str) -> tuple[str, ...]:
    """The documents that --attach names, checked before anything is built."""
    named = tuple(kind.strip() for kind in text.split(",") if kind.strip())
    if not named:
        return ()
    from lightship.supply.attachments import chosen_kinds

    return chosen_kinds(named)


def _described(attached: Attached) -> dict[str, Any]:
    artifact = attached.artifact
    return {
        "type": artifact.artifact_type,
        "digest": artifact.digest,
        "way": attached.way.value,
        "sent_bytes": attached.sent_bytes,
    }


def _private_key(path: Path | None, session: Session) -> PrivateKey | None:
    if path is None:
        return None
    from lightship.cli.password import password_from
    from lightship.supply.cosign_keys import read_private_key

    return read_private_key(path, password_from(session.environ))


_WORDS = {"sent": "blobs sent", "mounted": "taken over from the base's repository", "there": "there already"}


def _destination(text: str) -> Reference:
    """Where to push to. A name without any registry or user means nobody's repository, so it is a slip."""
    from lightship.oci import Reference

    if "/" not in text:
        raise click.UsageError(
            f"{text!r} names no registry; write REGISTRY/NAME:TAG, "
            f"such as localhost:5000/{text} or docker.io/USER/{text}."
        )
    return Reference.parse(text)
