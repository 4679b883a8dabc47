"""Where else a registry's images may be pulled from: containers' registries.conf, version 2, as engines read it.

    [[registry]]
    prefix = "docker.io"              # names that begin so; "*.example.com" for all hosts below one
    location = "hub.example.com"      # what stands in the prefix's place; the prefix itself where it is left out
    [[registry.mirror]]
    location = "mirror.example.com/hub"

Format: containers-registries.conf(5) of the containers/image project. Of it are honoured: prefix, location,
insecure, blocked, mirror-by-digest-only, and of mirrors location, insecure and pull-from-mirror. Mirrors are asked in
order, the registry itself last; pushes never go to one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from lightship.errors import NetworkError, ProjectError
from lightship.oci.name import Reference

VARIABLE = "CONTAINERS_REGISTRIES_CONF"
SYSTEM = Path("/etc/containers/registries.conf")
_LIMIT = 4 << 20  # bytes
_LOCATION = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]*(?:/[a-z0-9][a-z0-9._-]*)*")

PullFrom = Literal["all", "digest-only", "tag-only"]


class _Mirror(msgspec.Struct, frozen=True, rename="kebab"):
    location: str
    insecure: bool = False
    pull_from_mirror: PullFrom = "all"


class _Registry(msgspec.Struct, frozen=True, rename="kebab"):
    prefix: str = ""
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirror_by_digest_only: bool = False
    mirror: tuple[_Mirror, ...] = ()

    @property
    def names(self) -> str:
        return self.prefix or self.location


class _File(msgspec.Struct, frozen=True):
    registry: tuple[_Registry, ...] = ()


@dataclass(frozen=True)
class Place:
    """One place to pull an image from.

    Attributes:
        reference: The image's name there.
        plain_http: Whether it may be spoken to without TLS.
        pulls: For which kinds of names it may be asked.
    """

    reference: Reference
    plain_http: bool = False
    pulls: PullFrom = "all"

    def may_name(self, reference: Reference) -> bool:
        """Whether it may say what this name means."""
        return self.pulls in ("all", "digest-only" if reference.digest else "tag-only")


def places(reference: Reference, environ: Mapping[str, str], *, system: Path = SYSTEM) -> tuple[Place, ...]:
    """Where to pull an image from, in order; the last one is the registry that its name means.

    Raises `ProjectError` where a file cannot be read or means nothing, `NetworkError` where the image is blocked.
    """
    own = Place(reference)
    found = _longest(reference, _registries(environ, system))
    if found is None:
        return (own,)
    if found.blocked:
        raise NetworkError(
            f"{reference} may not be pulled: registries.conf blocks {found.names}.",
            hint="Whoever keeps that file decides; `blocked = true` stands in the [[registry]] of that prefix.",
        )
    if found.location and found.location != found.names:
        own = replace(own, reference=_moved(reference, found.names, found.location))
    own = replace(own, plain_http=found.insecure)
    mirrors = []
    for mirror in found.mirror:
        pulls: PullFrom = "digest-only" if found.mirror_by_digest_only else mirror.pull_from_mirror
        moved = _moved(reference, found.names, mirror.location)
        mirrors.append(Place(moved, mirror.insecure, pulls))
    return (*mirrors, own)


def _registries(environ: Mapping[str, str], system: Path) -> list[_Registry]:
    """All that the files say; a later file's word on a prefix replaces an earlier one's."""
    found: dict[str, _Registry] = {}
    for path in _files(environ, system):
        for registry in _read(path):
            found[registry.names] = registry
    return list(found.values())


def _files(environ: Mapping[str, str], system: Path) -> Iterator[Path]:
    """The file that counts, and the system's and the user's additions to it."""
    home = Path(environ.get("HOME") or "/nonexistent") / ".config" / "containers"
    if chosen := environ.get(VARIABLE):
        yield Path(chosen)
        return
    yield from [path for path in (home / "registries.conf", system) if _is_there(path)][:1]
    for folder in (system.with_name("registries.conf.d"), home / "registries.conf.d"):
        if _is_there(folder):
            yield from sorted(folder.glob("*.conf"))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder above it that may not be looked into: nothing of it counts, as with engines
        return False


def _read(path: Path) -> tuple[_Registry, ...]:
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as error:
        raise ProjectError(
            f"Could not read {path}: {error.strerror}.",
            hint=f"It says which registries have mirrors and which are blocked; {VARIABLE} names another one.",
        ) from error
    try:
        if len(content) > _LIMIT:
            raise ValueError(f"it is larger than {_LIMIT} bytes")
        document = tomllib.loads(content.decode())
        registries = msgspec.convert(document, _File).registry
        for registry in registries:
            if not registry.names:
                raise ValueError("a [[registry]] has neither prefix nor location")
            for location in (
                *([registry.location] if registry.location else []),
                *(m.location for m in registry.mirror),
            ):
                if not _LOCATION.fullmatch(location):
                    raise ValueError(f"{location!r} is no location: it takes HOST[:PORT][/PATH], without a scheme")
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise ProjectError(
            f"{path} is not a registries.conf of version 2: {error}.",
            hint=f"See containers-registries.conf(5), or name another file in {VARIABLE}.",
        ) from error
    return registries


def _longest(reference: Reference, registries: list[_Registry]) -> _Registry | None:
    name = f"{reference.registry}/{reference.repository}"
    fitting = [one for one in registries if _fits(name, reference, one.names)]
    return max(fitting, key=lambda one: len(one.names), default=None)


def _fits(name: str, reference: Reference, prefix: str) -> bool:
    if prefix.startswith("*."):
        host = reference.registry.rpartition(":")[0] if ":" in reference.registry else reference.registry
        return host.endswith(prefix[1:])
    return name == prefix or name.startswith(prefix.rstrip("/") + "/")


def _moved(reference: Reference, prefix: str, location: str) -> Reference:
    """The same image below `location`. Raises ProjectError where that gives no name."""
    name = f"{reference.registry}/{reference.repository}"
    rest = reference.repository if prefix.startswith("*.") else name[len(prefix.rstrip("/")) :].strip("/")
    text = "/".join(part for part in (location.strip("/"), rest) if part)
    if reference.tag:
        text += f":{reference.tag}"
    if reference.digest:
        text += f"@{reference.digest}"
    return Reference.parse(text)
