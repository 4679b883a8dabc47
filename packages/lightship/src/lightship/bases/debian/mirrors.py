"""Where Debian packages come from on this machine: the user's own mirror, never one that we name.

In this order: `[base] mirror`, `LIGHTSHIP_DEBIAN_MIRROR`, the host's apt sources. What a user gives is one URL, that
of the `debian` archive, or two, with the `debian-security` archive second. With one, the security archive is found
by a rule: the last path segment called `debian` becomes `debian-security`, which fits Debian's own mirrors and its
snapshots (`…/archive/debian/20260101T000000Z`); a URL with no such segment is asked for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightship.bases.debian.control import paragraphs
from lightship.errors import IntegrityError, NetworkError, ProjectError

VARIABLE = "LIGHTSHIP_DEBIAN_MIRROR"
APT_DIRECTORY = Path("/etc/apt")

_SCHEMES = ("http://", "https://", "file:/")
_CODENAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid")
_SUITES = ("oldoldstable", "oldstable", "stable", "testing", "unstable")
_SUITE = re.compile(
    rf"({'|'.join(_CODENAMES + _SUITES)})(-security|-updates|/updates|-proposed-updates|-backports)?/?"
)
_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


@dataclass(frozen=True)
class Mirrors:
    """URLs, without a slash at the end, of the `debian` and the `debian-security` archive."""

    main: str
    security: str

    def of_suite(self, suite: str) -> str:
        """The archive that has the suite, such as bookworm-updates."""
        return self.security if suite.endswith("-security") else self.main

    def of_package(self, path: str) -> tuple[str, ...]:
        """The URLs of a file of the pool, in the order to try them.

        The security archive keeps its packages under pool/updates; with a point release they move to the main one.
        """
        if path.startswith("pool/updates/"):
            return (f"{self.security}/{path}", f"{self.main}/pool/{path.removeprefix('pool/updates/')}")
        return (f"{self.main}/{path}",)


def find_mirrors(chosen: str | None, environ: Mapping[str, str], apt: Path = APT_DIRECTORY) -> Mirrors:
    """The mirrors to use; a `NetworkError` says where one can be named if there is none."""
    if chosen:
        return _given(chosen, "[base] mirror")
    if named := environ.get(VARIABLE):
        return _given(named, VARIABLE)
    if found := _mirrors_of_host(apt):
        return found
    raise NetworkError(
        f"No Debian mirror is known: {apt} has no sources of a Debian release.",
        hint=f"Set {VARIABLE}, or `mirror` under [base], to the URL of a Debian archive that you use. "
        "An image from a registry can be the base as well.",
    )


def _given(text: str, origin: str) -> Mirrors:
    urls = [url.rstrip("/") for url in text.split()]
    if len(urls) not in (1, 2) or not all(url.startswith(_SCHEMES) for url in urls):
        raise ProjectError(
            f"{origin} is {text!r}, which is not the URL of a Debian archive.",
            hint="Give one http, https or file URL, such as https://mirror.example/debian, or two separated by a "
            "space: the archive and its security archive.",
        )
    return Mirrors(urls[0], urls[1] if len(urls) == 2 else security_sibling(urls[0]))


def security_sibling(url: str) -> str:
    """The security archive that goes with an archive.

    >>> security_sibling("https://mirror.example/archive/debian/20260101T000000Z")
    'https://mirror.example/archive/debian-security/20260101T000000Z'
    >>> security_sibling("https://mirror.example/all")
    'https://mirror.example/all'
    """
    before, found, after = f"{url}/".rpartition("/debian/")
    return f"{before}/debian-security/{after}".rstrip("/") if found else url


# The host's apt sources


@dataclass(frozen=True)
class _Source:
    uri: str
    suite: str


def _mirrors_of_host(apt: Path) -> Mirrors | None:
    """The archives that the host's apt uses. The host may run another release of Debian than the base."""
    sources = [source for source in _sources(apt) if source.uri.startswith(_SCHEMES)]
    main = [source.uri for source in sources if _suffix(source) in ("", "-updates")]
    security = [source.uri for source in sources if _suffix(source) in ("-security", "/updates")]
    if not main:
        return None
    # Other publishers use Debian's codenames for their own suites; their archives are seldom called debian.
    main.sort(key=lambda uri: "debian" not in uri.split("/"))
    return Mirrors(main[0], security[0] if security else security_sibling(main[0]))


def _suffix(source: _Source) -> str | None:
    matched = _SUITE.fullmatch(source.suite)
    return (matched[2] or "") if matched else None


def _sources(apt: Path) -> Iterator[_Source]:
    """The binary sources with the component main, in apt's own order of files."""
    folder = apt / "sources.list.d"
    files = [apt / "sources.list"]
    if folder.is_dir():
        files += sorted(path for path in folder.iterdir() if path.suffix in (".list", ".sources"))
    for path in files:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue  # missing, or not ours to read
        yield from _deb822(text) if path.suffix == ".sources" else _one_line(text)


def _deb822(text: str) -> Iterator[_Source]:
    try:
        found = list(paragraphs(text))
    except IntegrityError:
        return  # apt would refuse the file too
    for fields in found:
        lowered = {name.lower(): value.split() for name, value in fields.items()}
        if lowered.get("enabled", ["yes"])[0].lower() in ("no", "false", "0", "off"):
            continue
        if "deb" in lowered.get("types", []) and "main" in lowered.get("components", []):
            for uri in lowered.get("uris", []):
                for suite in lowered.get("suites", []):
                    yield _Source(uri.rstrip("/"), suite)


def _one_line(text: str) -> Iterator[_Source]:
    for line in text.splitlines():
        matched = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if matched and "main" in matched["components"].split():
            yield _Source(matched["uri"].rstrip("/"), matched["suite"])
