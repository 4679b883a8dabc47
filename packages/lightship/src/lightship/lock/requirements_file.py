"""The requirements file format of pip, read just far enough: lines, includes, options, pins and hashes.

uv does the real parsing. This reader finds what uv cannot be asked for: the files that a requirements file depends
on, exact pins without a resolver, the hashes that the user wants to see, and lines that need a build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightship.errors import LockError, ProjectError

MAX_FILES = 100  # a requirements file with its includes; more is a loop or a mistake
MAX_SIZE = 4 << 20  # bytes of one file; a fully hashed lock of 500 packages has about 1 MiB

_INCLUDE = re.compile(r"(-r|-c|--requirement|--constraint)(?:\s+|=|(?<=-[rc]))(.+)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s|=|$)")
_COMMENT = re.compile(r"(?:^|\s+)#.*$")
_HASH = re.compile(r"--hash[=\s]\s*sha256:([0-9a-fA-F]{64})")
_OPTIONS_OF_LINE = re.compile(r"\s+--(?:hash|config-settings?|global-option)\b.*$")
_NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*")
_PIN = re.compile(r"\(?\s*===?\s*([A-Za-z0-9.!+_-]+)\s*\)?\s*(?:;.*)?$")
_VERSION_CONTROL = re.compile(r"(?:^|[\s@])(?:git|hg|svn|bzr)\+", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")


@dataclass(frozen=True)
class Line:
    """One logical line: where it stands, what it says (continued lines joined, comments gone)."""

    origin: str
    text: str
    constraint: bool = False

    @property
    def is_option(self) -> bool:
        return self.text.startswith("-") and not _EDITABLE.match(self.text)

    @property
    def name(self) -> str | None:
        """The normalised name of the package (PEP 503), where the line starts with one."""
        match = _NAME.match(self.text)
        return normalised(match[1]) if match and self.direct_reference != self.text else None

    @property
    def pin(self) -> tuple[str, str] | None:
        """Name and version of `name==version`; None for anything looser."""
        text = _OPTIONS_OF_LINE.sub("", self.text)
        match = _NAME.match(text)
        if match and (version := _PIN.fullmatch(text, match.end())) and "*" not in version[1]:
            return normalised(match[1]), version[1]
        return None

    @property
    def hashes(self) -> frozenset[str]:
        """The sha256 that the line allows; empty where it allows any."""
        return frozenset(match.lower() for match in _HASH.findall(self.text))

    @property
    def direct_reference(self) -> str | None:
        """The URL or path of `name @ url`, `./file.whl` or a bare URL; None for a name to be looked up."""
        text = _OPTIONS_OF_LINE.sub("", self.text).partition(" ;")[0].strip()
        match = _NAME.match(text)
        if match and text[match.end() :].startswith("@"):
            return text[match.end() + 1 :].strip()
        if text.startswith((".", "/", "~", "file:")) or "://" in text or text.endswith((".whl", ".zip", ".tar.gz")):
            return text
        return text if "/" in text.partition(";")[0] else None

    def expanded(self, environ: Mapping[str, str]) -> str:
        """The text with `${VARIABLE}`s replaced, as pip does."""
        return _VARIABLE.sub(lambda match: environ.get(match[1], match[0]), self.text)


def read_lines(path: Path) -> list[Line]:
    """All lines of a requirements file and of the files it includes, in order.

    Raises: `ProjectError` where a file is missing, too large, no text, or includes too much.
    """
    return list(_lines(path, constraint=False, seen=[]))


def check_needs_no_build(line: Line) -> None:
    """Refuse a requirement that would have to be built: editable, from version control, from a source tree.

    Raises: `LockError` naming the line and the remedy.
    """
    reference = line.direct_reference
    if _EDITABLE.match(line.text):
        what = "an editable install"
    elif _VERSION_CONTROL.search(line.text):
        what = "a requirement from version control"
    elif reference is not None and not re.search(r"\.whl(?:[?#].*)?$", reference):
        what = "a requirement that is not a wheel"
    else:
        return
    raise LockError(
        f"{line.origin}: {_without_login(line.text)!r}: {what} cannot be built here.",
        hint="Build it with `uv build --wheel`, put the wheel in a folder that --find-links names, and require it "
        "by name; or write the wheel's path here (./dist/name-1.0-py3-none-any.whl).",
    )


def normalised(name: str) -> str:
    """A package's name as indexes compare it (PEP 503).

    >>> normalised("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _lines(path: Path, *, constraint: bool, seen: list[Path]) -> Iterator[Line]:
    path = Path(os.path.normpath(path))
    if path in seen:  # a file that is included twice, or that includes itself, says nothing new
        return
    if len(seen) >= MAX_FILES:
        raise ProjectError(f"{seen[0]} includes more than {MAX_FILES} files.")
    seen.append(path)
    for number, text in _logical_lines(_text(path, seen)):
        origin = f"{path.name}:{number}"
        include = _INCLUDE.fullmatch(text)
        if include is None:
            yield Line(origin, text, constraint)
        elif "://" in include[2]:
            raise ProjectError(
                f"{path}:{number}: requirements from a URL are not supported ({_without_login(include[2])}).",
                hint="Keep a copy of the file in the project, so that what is built is what was reviewed.",
            )
        else:
            name = include[2].strip().strip("'\"")
            below = constraint or include[1] in ("-c", "--constraint")
            yield from _lines(path.parent / name, constraint=below, seen=seen)


def _text(path: Path, seen: list[Path]) -> str:
    included = f" (included from {seen[0]})" if path != seen[0] else ""
    try:
        if path.stat().st_size > MAX_SIZE:
            raise ProjectError(f"{path}{included} is larger than {MAX_SIZE >> 20} MiB.")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise ProjectError(f"Could not read the requirements file {path}{included}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path}{included} is not UTF-8 text.") from error


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers and lines, with continued ones joined (under the first one's number) and comments removed."""
    joined, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        first = first or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            joined += raw[:-1] + " "
            continue
        line = _COMMENT.sub("", joined + raw).strip()
        if line:
            yield first, " ".join(line.split())
        joined, first = "", 0
    if joined.strip():
        yield first, " ".join(joined.split())


def _without_login(text: str) -> str:
    return re.sub(r"://[^/\s@]*@", "://***@", text)
