"""Which base, and with it which Python: assembled from signed Debian packages unless the user names another."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightship.errors import ProjectError
from lightship.plan.decision import Decision
from lightship.project import Project
from lightship.releases import RELEASES

_DEFAULT = "bookworm"
# What compiles the C that kernels are started with (Triton's runtime/build.py), which includes Python.h.
_COMPILER = ("gcc", "libc6-dev", "libpython{python}-dev")


@dataclass(frozen=True)
class BaseChoice:
    """What the image stands on.

    Attributes:
        reference: `debian:bookworm`, `oci:<dir>` or `<registry>/<repository>:<tag>@sha256:...`.
        codename: The Debian release to assemble; None for an image base.
        python: The minor version, such as 3.11; None where only the base image can tell.
        glibc: The C library's version where it is known beforehand.
        packages: Further Debian packages that the user asked for.
    """

    reference: str
    codename: str | None
    python: str | None
    glibc: tuple[int, int] | None
    packages: tuple[str, ...] = ()


def decide_base(project: Project, *, compiles: bool = False) -> Decision[BaseChoice]:
    """The user's base; else the Debian release whose Python the project asks for; else bookworm.

    Args:
        compiles: Whether the server compiles C when it starts, so that the base must have a compiler.
    """
    table = project.settings.base_table
    wanted, why_wanted = _wanted_python(project)
    where = project.source or "the command line"
    if table.image is None:
        codename = _DEFAULT if wanted is None else _release_with(wanted, why_wanted)
        reason = "assembled from signed Debian packages: small, non-root, no build step; " + (
            f"the release with Python {wanted}" if wanted else "Python 3.11 has wheels of nearly everything"
        )
        return _debian(codename, table.packages, reason, (why_wanted,) if wanted else (), compiles=compiles)
    if table.image.startswith("debian:"):
        codename = table.image.removeprefix("debian:")
        if codename not in RELEASES:
            raise ProjectError(
                f"{where}: base: there is no assembled base debian:{codename}.",
                hint=f"Known: {', '.join(f'debian:{name}' for name in RELEASES)}; or any image: REGISTRY/NAME:TAG.",
            )
        decision = _debian(codename, table.packages, "[base] names it", compiles=compiles)
        if wanted and wanted != decision.value.python:
            raise ProjectError(
                f"{why_wanted} asks for Python {wanted}, but debian:{codename} has Python {decision.value.python}.",
                hint=_who_has(wanted),
            )
        return decision
    if table.packages:
        raise ProjectError(
            f"{where}: base.packages: packages can be added to an assembled base only.",
            hint='Use base = "debian:bookworm", or put the packages into your own base image.',
        )
    choice = BaseChoice(table.image, None, wanted, None)
    evidence = (*([why_wanted] if wanted else []), *(["it must have gcc and Python's headers"] if compiles else []))
    return Decision("base", choice, table.image, "[base] names it", evidence)


def _debian(
    codename: str, packages: tuple[str, ...], reason: str, evidence: tuple[str, ...] = (), *, compiles: bool
) -> Decision[BaseChoice]:
    release = RELEASES[codename]
    python, glibc = release.python, release.glibc
    if compiles:
        packages = (*packages, *(name.format(python=python) for name in _COMPILER))
    choice = BaseChoice(f"debian:{codename}", codename, python, glibc, packages)
    facts = (f"Python {python}", f"glibc {glibc[0]}.{glibc[1]}", *(f"with {name}" for name in packages))
    return Decision("base", choice, f"debian:{codename} · Python {python}", reason, (*evidence, *facts))


def _wanted_python(project: Project) -> tuple[str | None, str]:
    """The minor version that the project asks for, and who says so."""
    if version := project.settings.python.version:
        return _minor(version, "python.version"), "python.version"
    pinned = project.directory / ".python-version"
    if pinned.is_file():
        text = pinned.read_text("utf-8", "replace").strip().removeprefix("python-")
        if re.fullmatch(r"3\.\d+(\.\d+)?", text):
            return _minor(text, str(pinned)), ".python-version"
    return None, ""


def _minor(version: str, where: str) -> str:
    match = re.fullmatch(r"(3\.\d+)(\.\d+)?", version.strip())
    if not match:
        raise ProjectError(f"{where}: expected a version such as 3.11, got {version!r}.")
    return match[1]


def _release_with(python: str, why: str) -> str:
    for codename, release in RELEASES.items():
        if release.python == python:
            return codename
    raise ProjectError(f"{why} asks for Python {python}, which no assembled base has.", hint=_who_has(python))


def _who_has(python: str) -> str:
    assembled = ", ".join(f"debian:{name} has {release.python}" for name, release in RELEASES.items())
    return f'{assembled}; for Python {python} name an image: base = "REGISTRY/python:{python}-slim@sha256:...".'
