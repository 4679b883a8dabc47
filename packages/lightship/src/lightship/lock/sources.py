"""Requirements that are sources: what of them is written into the lock, and which lines of requirements name one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from lightship.errors import LockError
from lightship.lock.requirements_file import Line, normalised
from lightship.transfer import local_path
from lightship.transport import masked, without_credentials

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageSdist, PackageVcs

SourceKind = Literal["sdist", "archive", "directory", "git"]

_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=)(.+)")
_NAMED = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*@\s*(\S+)")
_EXTRAS = re.compile(r"(.+?)(\[[A-Za-z0-9._,\s-]*\])$")
_WHEEL = re.compile(r"\.whl(?:[?#].*)?$")
_OTHER_VERSION_CONTROL = re.compile(r"(?:hg|svn|bzr)\+", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True)
class Source:
    """Something that a wheel can be built of.

    Attributes:
        kind: A source distribution of an index, an archive named by its place, a folder, or a git repository.
        place: URL, or the absolute path of something on this machine.
        origin: Where it is asked for, for people.
        name: The package, normalised, where that is known before it is built.
        version: The same of its version.
        sha256: What the archive must hash to, where that is said.
        revision: Of a repository: a branch, a tag or a commit; empty for its default branch.
        subdirectory: Where the package lies in the archive or repository.
        extras: As written: `[a,b]` or nothing.
        marker: When it is wanted (PEP 508); empty for always.
    """

    kind: SourceKind
    place: str
    origin: str
    name: str | None = None
    version: str | None = None
    sha256: str | None = None
    revision: str = ""
    subdirectory: str = ""
    extras: str = ""
    marker: str = ""

    @property
    def title(self) -> str:
        """For people, without passwords."""
        if self.kind == "sdist":
            return f"{self.name} {self.version}"
        if self.name:
            return self.name
        return Path(self.place).name if "://" not in self.place else masked(self.place)

    def __str__(self) -> str:
        return self.title


def source_of_line(line: Line, directory: Path, environ: Mapping[str, str]) -> Source | None:
    """The source that a requirement names; None where it is a name to be looked up, or a wheel.

    Args:
        directory: What relative paths are relative to.

    Raises: `LockError` for version control other than git.
    """
    text = line.expanded(environ)
    editable = _EDITABLE.fullmatch(text)
    reference = line.direct_reference if editable is None else editable[1]
    if reference is None:
        return None
    text = re.sub(r"\s+--(?:hash|config-settings?|global-option)\b.*$", "", editable[1] if editable else text)
    text, _, marker = (part.strip() for part in text.partition(" ;"))
    name, extras = None, ""
    if named := _NAMED.fullmatch(text):
        name, extras, text = normalised(named[1]), named[2] or "", named[3]
    elif with_extras := _EXTRAS.fullmatch(text):
        text, extras = with_extras[1], with_extras[2]
    if _WHEEL.search(text):
        return None
    hashes = sorted(line.hashes)
    found = _located(text, directory, line.origin)
    return replace(
        found,
        name=name or found.name,
        extras=extras.replace(" ", ""),
        marker=marker,
        sha256=found.sha256 or (hashes[0] if len(hashes) == 1 else None),
    )


def source_of_table(
    name: str, table: Mapping[str, Any], directory: Path, line: Line, workspace: Mapping[str, Path]
) -> Source | None:
    """The source that an entry of `[tool.uv.sources]` stands for; None for an index or a wheel.

    Args:
        workspace: The folders of the workspace's members, by normalised name.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    subdirectory = str(table.get("subdirectory", ""))
    if "git" in table:
        revision = str(table.get("rev") or table.get("tag") or table.get("branch") or "")
        found = Source("git", str(table["git"]), line.origin, revision=revision)
    elif table.get("workspace"):
        if name not in workspace:
            raise LockError(f"{line.origin}: tool.uv.sources: the workspace has no member {name}.")
        found = Source("directory", str(workspace[name]), line.origin)
    elif "path" in table or "url" in table:
        text = str(table.get("path") or table["url"])
        if _WHEEL.search(text):
            return None
        found = _located(text, directory, line.origin)
    else:
        return None
    try:
        requirement = Requirement(line.text)
    except InvalidRequirement as error:
        raise LockError(f"{line.origin}: {line.text!r} is no requirement: {error}.") from error
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return replace(
        found,
        name=name,
        subdirectory=subdirectory or found.subdirectory,
        extras=extras,
        marker=str(requirement.marker or ""),
    )


def source_of_package(
    package: Package,
    chosen: PackageVcs | PackageDirectory | PackageArchive | PackageSdist,
    directory: Path,
    title: str,
) -> Source:
    """The source that a package of a pylock.toml (PEP 751) is to be built of."""
    from packaging.pylock import PackageDirectory, PackageSdist, PackageVcs

    version = str(package.version) if package.version else None
    subdirectory = str(getattr(chosen, "subdirectory", None) or "")
    if isinstance(chosen, PackageVcs):
        if chosen.type != "git":
            raise LockError(f"{title}: {package.name}: version control by {chosen.type} is not supported.")
        place = chosen.url or str(directory / (chosen.path or ""))
        return Source("git", place, title, package.name, version, None, chosen.commit_id, subdirectory)
    if isinstance(chosen, PackageDirectory):
        place = str((directory / chosen.path).resolve())
        return Source("directory", place, title, package.name, version, subdirectory=subdirectory)
    place = chosen.url or str((directory / (chosen.path or "")).resolve())
    sha256 = chosen.hashes.get("sha256")
    if sha256 is None:
        raise LockError(f"{title}: {package.name}: the source has no sha256, and without one nothing is built.")
    kind: SourceKind = "sdist" if isinstance(chosen, PackageSdist) else "archive"
    return Source(kind, place, title, package.name, version, sha256.lower(), subdirectory=subdirectory)


def place_in_lock(source: Source, directory: Path) -> str:
    """Where a source is, as the lock has it: no index, no login, no path of this machine."""
    if source.kind == "sdist":
        return ""
    path = local_path(source.place)
    if path is not None and path.is_absolute():
        place = Path(os.path.relpath(path, directory.resolve())).as_posix()
    else:
        place = without_credentials(source.place)
    return f"{place}@{source.revision}" if source.revision else place


def is_commit(text: str) -> bool:
    """Whether a revision of git is a full hash already."""
    return _COMMIT.fullmatch(text) is not None


def _located(text: str, directory: Path, origin: str) -> Source:
    if _OTHER_VERSION_CONTROL.match(text):
        raise LockError(
            f"{origin}: {without_credentials(text)}: of version control only git is supported.",
            hint="Build the wheel with `uv build --wheel`, and write its path here.",
        )
    bare, _, fragment = text.partition("#")
    told = {key: values[-1] for key, values in parse_qs(fragment).items()}
    subdirectory = told.get("subdirectory", "")
    name = normalised(told["egg"].partition("[")[0]) if told.get("egg") else None
    if bare.startswith("git+"):
        url = bare.removeprefix("git+")
        path = urlsplit(url).path
        place, _, revision = url.rpartition("@") if "@" in path else (url, "", "")
        return Source("git", place, origin, name, revision=revision, subdirectory=subdirectory)
    path_or_none = local_path(bare)
    if path_or_none is None:
        return Source("archive", bare, origin, name, sha256=told.get("sha256"), subdirectory=subdirectory)
    local = path_or_none.expanduser()
    if not bare.startswith("file:") and not (directory / local).exists():
        local = Path(unquote(str(local)))
    absolute = (directory / local).resolve()
    if absolute.is_dir():
        return Source("directory", str(absolute), origin, name, subdirectory=subdirectory)
    if not absolute.is_file():
        raise LockError(f"{origin}: there is nothing at {bare}.", hint="Paths are relative to the requirements file.")
    return Source("archive", str(absolute), origin, name, sha256=told.get("sha256"), subdirectory=subdirectory)
