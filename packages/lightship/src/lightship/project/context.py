"""Which files of the project's folder go into the image: all that the server may need, nothing that it must not.

`.lightshipignore`, or else `.dockerignore`, is honoured with Docker's rules (patterns are anchored at the folder,
`**` crosses folders, `!` takes back, the last match wins). What no image should hold is left out before that: version
control, caches, environments, and files that hold secrets by their very name; the latter are told of.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lightship.errors import ProjectError

IGNORE_FILES = (".lightshipignore", ".dockerignore")

_NEVER_FOLDERS = frozenset(
    ".git .hg .svn .venv venv env node_modules __pycache__ .ipynb_checkpoints .pytest_cache .mypy_cache "
    ".ruff_cache .tox .nox .idea .vscode .cache mlruns wandb .aws .ssh .gnupg .docker .kube".split()
)
_NEVER_FILES = frozenset(
    "lightship.toml lightship.lock .lightshipignore .dockerignore .gitignore .gitattributes Dockerfile "
    "requirements.txt uv.lock pylock.toml pyproject.toml poetry.lock Makefile .DS_Store .python-version".split()
)
_PLATFORM_LOCK = re.compile(r"lightship\.[a-z0-9]+\.lock")  # beside lightship.lock, of platforms after the first
_SECRET_FILES = re.compile(
    r"\.env(\..*)?|\.netrc|\.pypirc|\.git-credentials|kaggle\.json|credentials\.json|service[-_]account.*\.json"
    r"|id_(rsa|dsa|ecdsa|ed25519)|.*\.(pem|key|p12|pfx|jks|kdbx)",
    re.IGNORECASE,
)
WEIGHTS_SIZE = 10 << 20  # bytes; a file from this size on is weights, whatever its name
WEIGHTS_SUFFIXES = frozenset(
    ".joblib .pkl .pickle .skops .onnx .safetensors .gguf .pt .pth .pt2 .bin .ckpt .h5 .keras .tflite "
    ".ubj .cbm .npy .npz".split()
)


@dataclass(frozen=True)
class ContextFile:
    """One file for the image: its path relative to /app, where its bytes are, and whether it may be executed."""

    path: str
    source: Path
    size: int
    executable: bool

    @property
    def is_weights(self) -> bool:
        return self.size >= WEIGHTS_SIZE or Path(self.path).suffix.lower() in WEIGHTS_SUFFIXES


@dataclass(frozen=True)
class Context:
    """The files of a project, sorted by path, and the names of those that were left out as secrets."""

    files: tuple[ContextFile, ...]
    secrets: tuple[str, ...] = ()


def read_context(directory: Path, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Context:
    """List a folder. `include` takes files back that a rule leaves out; `exclude` leaves more out."""
    ignored = [*_ignore_patterns(directory), *exclude]
    rules = [_Rule.parse(pattern) for pattern in ignored]
    wanted = [_Rule.parse(pattern) for pattern in include]
    files: list[ContextFile] = []
    secrets: list[str] = []
    for path, source in _walk(directory, "", directory.resolve()):
        name = path.rpartition("/")[2]
        if not _matches(wanted, path):
            if _SECRET_FILES.fullmatch(name):
                secrets.append(path)
                continue
            if name in _NEVER_FILES or _PLATFORM_LOCK.fullmatch(name) or _matches(rules, path):
                continue
        files.append(context_file(path, source))
    return Context(tuple(sorted(files, key=lambda file: file.path)), tuple(sorted(secrets)))


def context_file(path: str, source: Path) -> ContextFile:
    """The file at `source` as /app/`path`."""
    found = source.stat()
    return ContextFile(path, source, found.st_size, bool(found.st_mode & 0o100))


def _walk(directory: Path, prefix: str, root: Path) -> Iterator[tuple[str, Path]]:
    with os.scandir(directory) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = f"{prefix}{entry.name}"
        source = Path(entry.path)
        if not _is_text(entry.name):
            raise ProjectError(
                f"The name of {path!r} is not UTF-8, which neither a lock nor an image's documents can hold.",
                hint="Rename the file, or move it out of the project's folder.",
            )
        if entry.is_symlink() and not source.exists():
            raise ProjectError(f"{source} is a broken symbolic link.", hint="Mend it, or add it to .lightshipignore.")
        if entry.is_symlink() and source.is_dir():
            if not source.resolve().is_relative_to(root):
                raise ProjectError(
                    f"{source} links to a folder outside the project ({source.resolve()}).",
                    hint="Copy it into the project, or add it to .lightshipignore.",
                )
            continue  # a link inside the project: its target is listed by itself
        if entry.is_dir():
            if entry.name not in _NEVER_FOLDERS and not entry.name.endswith(".egg-info"):
                yield from _walk(source, path + "/", root)
        elif entry.is_file() and not entry.name.endswith((".pyc", ".pyo", ".swp", "~")):
            yield path, source


def _is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; Python keeps other bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ignore_patterns(directory: Path) -> list[str]:
    for name in IGNORE_FILES:
        path = directory / name
        if path.is_file():
            lines = (line.strip() for line in path.read_text("utf-8", "replace").splitlines())
            return [line for line in lines if line and not line.startswith("#")]
    return []


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    keeps: bool

    @staticmethod
    def parse(line: str) -> _Rule:
        keeps = line.startswith("!")
        return _Rule(_compiled(line.removeprefix("!").strip("/")), keeps)


def _matches(rules: list[_Rule], path: str) -> bool:
    """Whether the last rule that matches the path, or a folder above it, leaves it out."""
    result = False
    for rule in rules:
        if rule.pattern.match(path):
            result = not rule.keeps
    return result


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Docker's pattern language as a regular expression that also matches everything below a matching folder."""
    out = ""
    position = 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**/"):
            out, position = out + "(?:.*/)?", position + 3
        elif rest.startswith("**"):
            out, position = out + ".*", position + 2
        elif rest[0] == "*":
            out, position = out + "[^/]*", position + 1
        elif rest[0] == "?":
            out, position = out + "[^/]", position + 1
        elif rest[0] == "[" and "]" in rest[2:]:
            end = rest.index("]", 2)
            out, position = out + rest[: end + 1].replace("[^", "[^/").replace("[!", "[^/"), position + end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            out, position = out + re.escape(rest[1]), position + 2
        else:
            out, position = out + re.escape(rest[0]), position + 1
    try:
        return re.compile(out + r"(?:/.*)?\Z", re.DOTALL)
    except re.error as error:
        raise ProjectError(f"The ignore pattern {pattern!r} is not valid: {error}.") from error
