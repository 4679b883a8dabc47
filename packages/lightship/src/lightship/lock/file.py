"""`lightship.lock`: every wheel, the base and the weights of an image, by hash, and of no host a word.

The file is TOML, written the same way every time, so that a reviewer sees in a diff what changed and nothing else.
Two inputs are tracked apart: what the wheels depend on and what the base depends on, so that a new requirement
never moves the base, and a new base never moves a requirement. What an observed run did without (`Pruned`) has
inputs of its own, the project's files among them.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lightship.errors import LockError, StorageError
from lightship.lock.target import Target

VERSION = 1
_HEADER = """\
# What the image is made of, by hash. Written by `lightship lock`; commit it, do not edit it.
# It names no package index: files are found through the configuration of whoever builds.
"""

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Commit = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}([0-9a-f]{24})?$")]
Size = Annotated[int, msgspec.Meta(ge=0)]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl$")]
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: immutable, and closed to unknown keys."""


class LockedSource(_Table, frozen=True, omit_defaults=True):
    """What a wheel is built of.

    Attributes:
        kind: `sdist` of an index, `archive` named by its place, `directory`, or `git`.
        sha256: Of the archive's bytes, or of the folder's files, their names and their modes; of a git repository
            the commit says it all.
        place: As the requirements have it, without logins: a URL, or a path relative to the project; nothing for an
            index's sdist, because the lock names no index.
        commit: Of a git repository, in full.
        subdirectory: Where the package lies in it.
        build: What the build backend needs, as wheels.
    """

    kind: Literal["sdist", "archive", "directory", "git"]
    sha256: Sha256 | Literal[""] = ""
    place: str = ""
    commit: Commit | Literal[""] = ""
    subdirectory: str = ""
    build: tuple[LockedWheel, ...] = ()


class LockedWheel(_Table, frozen=True, omit_defaults=True):
    """One wheel; `name` is normalised (PEP 503), `size` in bytes, `source` what it is built of where it is built.

    A built wheel has a hash as well: that of what this source became when it was locked, and has to become again.
    """

    name: Name
    version: str
    file: FileName
    size: Size
    sha256: Sha256
    source: LockedSource | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class LockedWeights(_Table, frozen=True):
    """One file of weights, relative to the project; `size` in bytes."""

    path: str
    size: Size
    sha256: Sha256


class Pruned(_Table, frozen=True):
    """What an observed run did without: the same everywhere, because it is written down.

    A wheel that is in neither table stays whole.

    Attributes:
        inputs: Digest of everything that the run was made from; with another one the record counts for nothing.
        dropped: Distributions of which nothing stays, with their unpacked size in bytes.
        kept: Distributions of which only these files stay (as RECORD names them), besides .dist-info and licences.
    """

    level: Literal["used", "traced"]
    inputs: str
    dropped: dict[Name, Size] = {}
    kept: dict[Name, tuple[str, ...]] = {}


class Prefetched(_Table, frozen=True):
    """What the start of the image reads: what a node that pulls lazily fetches first.

    Attributes:
        inputs: Digest of what the start was observed with; with another one it is observed anew.
        files: Names by folder, as a container sees them, without the first slash.
    """

    inputs: str
    files: dict[str, tuple[str, ...]] = {}


class LockedConversion(_Table, frozen=True):
    """What converts the model into the one that is served, and what the image saves by that.

    Attributes:
        wheels: The environment in which it is loaded, converted and compared.
        dropped: Distributions that the image would have with the model as it is: bytes of the wheel, and unpacked.
        added: Those that it has only because of the conversion, likewise.
    """

    wheels: tuple[LockedWheel, ...] = msgspec.field(name="wheel", default=())
    dropped: dict[Name, tuple[Size, Size]] = {}
    added: dict[Name, tuple[Size, Size]] = {}


class Inputs(_Table, frozen=True):
    """Digests of what the two halves of the lock were made from."""

    requirements: str
    base: str


class Lock(_Table, frozen=True):
    """The whole file. What `base` holds is the base's own affair."""

    target: Target
    inputs: Inputs
    base: dict[str, Any] = {}
    wheels: tuple[LockedWheel, ...] = msgspec.field(name="wheel", default=())
    weights: tuple[LockedWeights, ...] = ()
    pruned: Pruned | None = None
    prefetched: Prefetched | None = None
    conversion: LockedConversion | None = None
    version: int = VERSION


def read_lock(path: Path) -> Lock | None:
    """The lock at `path`; None where there is none.

    Raises: `LockError` where the file is not a lock that this version can read, naming the key.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"Could not read {path}: {error}.") from error
    remedy = "Restore the file from version control, or delete it and run `lightship lock`."
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if re.search("^(<<<<<<<|=======|>>>>>>>)", text, re.MULTILINE):
            remedy = "Take either side of the merge and run `lightship lock`, which brings in the other."
            raise LockError(f"{path} has merge conflicts that are not resolved.", hint=remedy) from error
        raise LockError(f"{path} is not valid TOML: {error}.", hint=remedy) from error
    if table.get("version") != VERSION:
        raise LockError(
            f"{path} has version {table.get('version')!r}, which this version of Lightship cannot read.",
            hint="Use the version of Lightship that wrote it, or delete it and run `lightship lock`.",
        )
    try:
        lock = msgspec.convert(table, Lock)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        key = where.strip("`").removeprefix("$.")
        raise LockError(f"{path}: {key or 'the file'}: {message}.", hint=remedy) from error
    _check_wheels(lock.wheels, path, remedy)
    if lock.conversion:
        _check_wheels(lock.conversion.wheels, path, remedy)
    return lock


def write_lock(path: Path, lock: Lock) -> bool:
    """Write the lock, whole or not at all. Returns whether the file changed; an equal one is left alone."""
    content = render(lock).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"Could not write {path}: {error.strerror}.",
            hint="The lock lies in the project's folder, so that it can be committed; make the folder writable.",
        ) from error
    return True


def render(lock: Lock) -> str:
    """The text of the file: tables in a fixed order, wheels by name, weights by path."""
    import tomli_w

    table: dict[str, Any] = {
        "version": lock.version,
        "inputs": {"requirements": lock.inputs.requirements, "base": lock.inputs.base},
        "target": {
            "python": lock.target.python,
            "platform": lock.target.platform,
            "glibc": list(lock.target.glibc),
        },
    }
    if lock.base:
        table["base"] = lock.base
    if lock.wheels:
        table["wheel"] = [msgspec.to_builtins(wheel) for wheel in sorted(lock.wheels, key=lambda each: each.name)]
    if lock.weights:
        table["weights"] = [msgspec.structs.asdict(file) for file in sorted(lock.weights, key=lambda each: each.path)]
    if pruned := lock.pruned:
        table["pruned"] = {
            "level": pruned.level,
            "inputs": pruned.inputs,
            "dropped": dict(sorted(pruned.dropped.items())),
            "kept": {name: sorted(files) for name, files in sorted(pruned.kept.items())},
        }
    if prefetched := lock.prefetched:
        table["prefetched"] = {"inputs": prefetched.inputs, "files": prefetched.files}
    if conversion := lock.conversion:
        table["conversion"] = {
            "dropped": {name: list(sizes) for name, sizes in sorted(conversion.dropped.items())},
            "added": {name: list(sizes) for name, sizes in sorted(conversion.added.items())},
            "wheel": [msgspec.to_builtins(each) for each in sorted(conversion.wheels, key=lambda each: each.name)],
        }
    return _HEADER + "\n" + tomli_w.dumps(table)


def stale_reasons(lock: Lock, expected: Inputs) -> tuple[str, ...]:
    """Why the lock no longer describes the project; empty where it does."""
    reasons = []
    if lock.inputs.requirements != expected.requirements:
        reasons.append("the requirements, or the Python or platform they are for, changed since it was written")
    if lock.inputs.base != expected.base:
        reasons.append("the base, or the packages it needs, changed since it was written")
    return tuple(reasons)


def differences(old: Lock | None, new: Lock) -> tuple[str, ...]:
    """What a new lock changes, one line each: `numpy 2.3.4 -> 2.3.5`, `+ scipy 1.16.2`, `- joblib 1.5.2`."""
    if old is None:
        return tuple(f"+ {wheel}" for wheel in sorted(new.wheels, key=lambda each: each.name))
    lines = []
    if old.target != new.target:
        lines.append(f"target: {old.target} -> {new.target}")
    lines += _changes(_wheel_states(old.wheels), _wheel_states(new.wheels))
    converters = [_wheel_states(lock.conversion.wheels if lock.conversion else ()) for lock in (old, new)]
    lines += [f"conversion: {line}" for line in _changes(*converters)]
    lines += [f"base: {line}" for line in _changes(_base_states(old.base), _base_states(new.base))]
    weights = [{file.path: ("", file.sha256) for file in lock.weights} for lock in (old, new)]
    lines += [f"weights: {line}" for line in _changes(*weights)]
    if new.pruned and new.pruned != old.pruned:
        dropped, partly = len(new.pruned.dropped), len(new.pruned.kept)
        counts = f"of {len(new.wheels)} distributions {dropped} are left out and {partly} kept in part"
        lines.append(f"pruned: observed anew ({new.pruned.level}); {counts}")
    if new.prefetched and new.prefetched != old.prefetched:
        lines.append(f"prefetched: observed anew; {sum(map(len, new.prefetched.files.values()))} files")
    return tuple(lines)


_States = dict[str, tuple[str, str]]  # name -> what a person sees of it (a version), what else identifies it


def _changes(old: _States, new: _States) -> list[str]:
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None and after is not None:
            lines.append(f"+ {name} {after[0]}".rstrip())
        elif after is None and before is not None:
            lines.append(f"- {name} {before[0]}".rstrip())
        elif before is not None and after is not None and before[0] != after[0]:
            lines.append(f"{name} {before[0]} -> {after[0]}")
        else:
            lines.append(f"{name} {after[0] if after else ''}".rstrip() + " (another file)")
    return lines


def _wheel_states(wheels: tuple[LockedWheel, ...]) -> _States:
    return {wheel.name: (wheel.version, wheel.sha256) for wheel in wheels}


def _base_states(base: dict[str, Any]) -> _States:
    """What can be compared of a base without knowing its kind: its values, and its lists of named things."""
    states: _States = {}
    for key, value in base.items():
        if isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value):
            for each in value:
                states[str(each["name"])] = (str(each.get("version", "")), repr(sorted(each.items())))
        else:
            shown = str(value)
            states[key] = (shown if len(shown) <= 80 else "", shown)
    return states


def _check_wheels(wheels: tuple[LockedWheel, ...], path: Path, remedy: str) -> None:
    seen: set[str] = set()
    for number, wheel in enumerate(wheels):
        name, _, _ = wheel.file.partition("-")
        if re.sub(r"[-_.]+", "-", name).lower() != wheel.name:
            raise LockError(f"{path}: wheel[{number}].file: {wheel.file!r} is no wheel of {wheel.name}.", hint=remedy)
        if wheel.name in seen:
            raise LockError(f"{path}: wheel[{number}].name: {wheel.name} is there twice.", hint=remedy)
        seen.add(wheel.name)
