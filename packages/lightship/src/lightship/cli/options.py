"""The options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lightship.cli.display import Display
from lightship.project import Project, load_project
from lightship.session import Session

if TYPE_CHECKING:
    from lightship.build import Build
    from lightship.oci import Platform, Reference
    from lightship.supply import Materials

Command = TypeVar("Command", bound=Callable[..., Any])

target = click.argument(
    "target", type=click.Path(path_type=Path), default=Path(), metavar="[FOLDER | MODEL | SERVE.PY]"
)


def output(function: Command) -> Command:
    """--quiet and --json."""
    function = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")(
        function
    )
    return click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong.")(function)


def project(function: Command) -> Command:
    """The target, and what the command line may say over its lightship.toml."""
    for option in (
        click.option("--offline", is_flag=True, help="Use the cache only; fail where something is missing."),
        click.option("--golden", metavar="FILE", help="A golden request and answer to prove the image with."),
        click.option("--requirements", metavar="FILE", help="The requirements file to install from."),
        click.option("--python", metavar="VERSION", help="The Python in the image, such as 3.11."),
        click.option("--base", metavar="REF", help="debian:bookworm, debian:trixie, oci:DIR or REGISTRY/NAME:TAG."),
        click.option("--name", metavar="NAME", help="The image's name."),
        click.option(
            "--platform", "platforms", multiple=True, metavar="OS/ARCH", help="linux/amd64, linux/arm64; or both."
        ),
        click.option("--app", metavar="MODULE:NAME", help="Your own ASGI server, such as serve:app."),
    ):
        function = option(function)
    return target(function)


def locking(function: Command) -> Command:
    """--locked, --upgrade and --cache-from; `parse_references` reads the last."""
    function = click.option("--upgrade", is_flag=True, help="Resolve anew and take the newest versions.")(function)
    function = click.option(
        "--cache-from",
        multiple=True,
        metavar="REGISTRY/NAME:TAG",
        help="Reuse the layers of an image that was pushed before, without their bytes.",
    )(function)
    return click.option("--locked", is_flag=True, help="Fail where lightship.lock is stale or missing.")(function)


def running(function: Command) -> Command:
    """--engine and --port."""
    function = click.option(
        "-p", "--port", type=click.IntRange(1, 65535), metavar="PORT", help="The port on 127.0.0.1; a free one else."
    )(function)
    return click.option(
        "--engine",
        type=click.Choice(["auto", "docker", "podman", "embedded"]),
        default="auto",
        help="Where to run it; auto takes the first that works. Embedded needs no engine at all.",
    )(function)


def private_key(function: Command) -> Command:
    """--key, for what signs."""
    return click.option(
        "--key",
        type=click.Path(path_type=Path),
        required=True,
        metavar="FILE",
        help="The private key: cosign's encrypted form, or PKCS #8 in PEM.",
    )(function)


def platform(function: Command) -> Command:
    """--platform, for commands that look at an image; `parse_platform` reads it."""
    return click.option("--platform", metavar="OS/ARCH", help="Which image of several, such as linux/arm64.")(
        function
    )


def one_platform(function: Command) -> Command:
    """--for, for commands that build and tell of one image; `materials_for` reads it."""
    return click.option("--for", "wanted", metavar="OS/ARCH", help="Which image, where there are several platforms.")(
        function
    )


def materials_for(built: Build, wanted: str | None) -> Materials:
    """What the image that --for names was made of; without it the only one."""
    offered = {str(materials.image.platform): materials for materials in built.materials}
    if wanted is None and len(offered) == 1:
        return next(iter(offered.values()))
    if wanted not in offered:
        raise click.UsageError(f"Say with --for which image is meant: {', '.join(offered)}.")
    return offered[wanted]


def parse_platform(text: str | None) -> Platform | None:
    """The platform that --platform names."""
    from lightship.oci import Platform

    return None if text is None else Platform.parse(text)


def parse_references(names: tuple[str, ...]) -> list[Reference]:
    """The images that --cache-from names."""
    from lightship.oci import Reference

    return [Reference.parse(name) for name in names]


def plain(text: str) -> str:
    """Text from an image, fit for a terminal: no control characters, and nothing that is taken for markup."""
    from rich.markup import escape

    return escape(
        "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    )


def overrides(
    *,
    app: str | None = None,
    name: str | None = None,
    base: str | None = None,
    python: str | None = None,
    requirements: str | None = None,
    golden: str | None = None,
    platforms: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The settings that the shared options stand for, as nested tables."""
    chosen: dict[str, dict[str, Any]] = {
        "serve": {"app": app},
        "image": {"name": name, "platforms": list(platforms)},
        "base": {"image": base},
        "python": {"version": python, "requirements": requirements},
        "test": {"golden": golden},
    }
    kept = {table: {key: value for key, value in keys.items() if value} for table, keys in chosen.items()}
    return {table: keys for table, keys in kept.items() if keys}


def open_project(target: Path, **chosen: Any) -> Project:
    """The project that the shared options describe."""
    return load_project(target, overrides(**chosen))


@contextmanager
def session(display: Display, *, offline: bool = False) -> Iterator[Session]:
    """The session of a command, with its progress shown."""
    with display.progress() as progress:
        yield Session.from_environment(os.environ, progress=progress, offline=offline)


def write_file(path: Path, content: bytes) -> None:
    """Write a result where the user wants it, whole or not at all."""
    from lightship.cache import storing

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with storing(path):
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
