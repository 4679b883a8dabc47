"""Names of images: `localhost:5000/team/iris:1.2@sha256:...`, read by the grammar that all registries share.

The grammar is the distribution project's (`reference/regexp.go` there). Short names mean what they mean to
Docker; the rule, and the only registry known by name, is in this file and nowhere else.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from lightship.errors import ProjectError

DEFAULT_REGISTRY = "docker.io"  # what `python:3.12-slim` means to every engine
DEFAULT_REGISTRY_HOST = "registry-1.docker.io"  # where that registry answers
DEFAULT_REGISTRY_ACCOUNT = "https://index.docker.io/v1/"  # its key in Docker's config.json
DEFAULT_TAG = "latest"
MAX_REPOSITORY = 255  # characters, registry and path together

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """The name of an image in a registry, in full.

    >>> str(Reference.parse("python:3.12-slim"))
    'docker.io/library/python:3.12-slim'
    >>> Reference.parse("localhost:5000/iris").target
    'latest'
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference as users write it; raises `ProjectError` where it is none."""
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _wrong(text, "after @ it takes a digest of the form sha256:<64 hex digits>")
        name, tag = rest, None
        if ":" in rest.rpartition("/")[2]:
            name, _, tag = rest.rpartition(":")
            if not _TAG.fullmatch(tag):
                raise _wrong(text, f"{tag!r} is not a tag")
        first, slash, path = name.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            registry, repository = first, path
        else:
            registry, repository = DEFAULT_REGISTRY, name if slash else f"library/{name}"
        if not _REGISTRY.fullmatch(registry):
            raise _wrong(text, f"{registry!r} is not the address of a registry")
        if not _REPOSITORY.fullmatch(repository) or len(registry) + len(repository) >= MAX_REPOSITORY:
            raise _wrong(text, "a repository has small letters and digits, parted by '/', '.', '_' or '-'")
        if tag is None and not digest:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag, digest or None)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest, which cannot move, or else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def host(self) -> str:
        """Host and port where the registry's HTTP interface answers."""
        return DEFAULT_REGISTRY_HOST if self.registry == DEFAULT_REGISTRY else self.registry

    @property
    def account(self) -> str:
        """The registry's key in Docker's configuration."""
        return DEFAULT_REGISTRY_ACCOUNT if self.registry == DEFAULT_REGISTRY else self.registry

    def at(self, digest: str) -> Reference:
        """The same image, pinned."""
        return Reference(self.registry, self.repository, self.tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def is_loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine: the only place where plain HTTP is spoken.

    Only literal addresses and the name `localhost` count; nothing is looked up.
    """
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) and not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _wrong(text: str, why: str) -> ProjectError:
    return ProjectError(
        f"{text!r} is not the name of an image: {why}.",
        hint="Write it as registry/repository:tag, with @sha256:... to pin it.",
    )
