"""What of which wheel is installed: chosen from what an observed run opened, and applied to a lock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from lightship.errors import ProjectError
from lightship.layers.environment import Environment
from lightship.layers.installed import Installed
from lightship.layers.installed_wheel import WheelSource
from lightship.layers.prune import NEVER_OPENED, Level, always_kept, kept_paths
from lightship.layers.removed import Removed, removed_from
from lightship.lock import Lock, LockedWheel, Pruned
from lightship.session import Session

OBSERVED = ("used", "traced")  # the levels that need an observed run
_NAME = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")  # what can only be meant as a distribution
_MODULE = re.compile(r"No module named '([\w.]+)'|cannot import name '(\w+)' from '([\w.]+)'")


def select(
    level: Literal["used", "traced"],
    inputs: str,
    distributions: Sequence[Installed],
    opened: frozenset[str],
    keep: Sequence[str],
) -> Pruned:
    """What stays of each distribution, by the files that were opened.

    Args:
        opened: As RECORD names them.
        keep: The user's names of distributions, and patterns of files.
    """
    whole, matches = set(map(_normalised, keep)), kept_paths(keep)
    dropped, kept = {}, {}
    for each in distributions:
        if each.name in whole:
            continue
        touched = opened & each.files.keys()
        wanted = {path for path in touched if not path.startswith(f"{each.dist_info}/")}
        wanted |= {path for path in each.files if matches(path)}
        if not touched and not wanted:
            dropped[each.name] = each.size
        elif level == "traced":
            kept[each.name] = tuple(sorted(wanted))
        elif not wanted:
            kept[each.name] = ()  # its metadata was read, its code was not
    return Pruned(level, inputs, dropped, kept)


def what_to_install(
    locked: Sequence[LockedWheel], pruned: Pruned | None, keep: Sequence[str]
) -> Iterator[tuple[LockedWheel, frozenset[str] | None, tuple[str, ...]]]:
    """The wheels of a lock that are installed; of each, the only files (None for all) and the patterns to keep.

    Raises: `ProjectError` where `keep` names a distribution that is not locked.
    """
    names = {wheel.name for wheel in locked}
    whole = {_normalised(name) for name in keep} & names
    patterns = tuple(sorted(pattern for pattern in keep if _normalised(pattern) not in whole))
    for pattern in patterns:
        if _NAME.fullmatch(pattern):
            raise ProjectError(
                f"[image] keep: there is no distribution {pattern!r} in lightship.lock.",
                hint="Name a distribution of the lock, or a pattern of files such as numpy/data/*.",
            )
    for wheel in locked:
        if pruned is None:
            yield wheel, None, ("*",) if wheel.name in whole else patterns
        elif wheel.name not in pruned.dropped:
            files = pruned.kept.get(wheel.name)
            only = None if files is None else frozenset(files)
            yield wheel, only, ("*",) if wheel.name in whole else patterns


def installed_of(lock: Lock, level: str) -> Lock:
    """The lock without the distributions of which nothing is in the image."""
    if level not in OBSERVED or lock.pruned is None:
        return lock
    dropped = lock.pruned.dropped
    return msgspec.structs.replace(lock, wheels=tuple(wheel for wheel in lock.wheels if wheel.name not in dropped))


def removals(
    lock: Lock, wheels: Iterable[WheelSource], environment: Environment, level: str, session: Session
) -> tuple[Removed, ...]:
    """What is left out of the image at any level, by distribution, the largest saving first; see `removed_from`."""
    found = [removed_from(wheel, environment, rules_of(level), session.cache) for wheel in wheels]
    removed = [each for each in found if each and each.rules]
    if lock.pruned and level in OBSERVED:
        versions = {wheel.name: wheel.version for wheel in lock.wheels}
        for name, size in lock.pruned.dropped.items():
            removed.append(Removed(name, versions.get(name, ""), {NEVER_OPENED: (0, size)}, whole=True))
    return tuple(sorted(removed, key=lambda each: (-each.size, each.name)))


def rules_of(level: str) -> Level:
    """The rules that a level applies to every wheel: all but `none` those of `safe`."""
    return "none" if level == "none" else "safe"


def named_in(text: str, left_out: Mapping[str, str]) -> list[str]:
    """Which of the files that were left out the last words of a server name: by path, by library or by module.

    >>> named_in("ModuleNotFoundError: No module named 'demo.late'", {"demo/late.py": "demo", "demo/x.py": "demo"})
    ['demo/late.py']
    """
    modules = set()
    for module, name, package in _MODULE.findall(text):
        modules.add((module or f"{package}.{name}").replace(".", "/"))
    found = [path for path in left_out if f"site-packages/{path}" in text]
    found += [path for path in left_out if ".so" in path and path.rpartition("/")[2] in text]
    for path in left_out:
        stem = path.removesuffix("/__init__.py") if path.endswith("/__init__.py") else path.partition(".")[0]
        if path.endswith((".py", ".so")) and stem in modules:
            found.append(path)
    return sorted(set(found))


def left_out_by(distributions: Iterable[Installed], pruned: Pruned) -> dict[str, str]:
    """The files of the whole image that the pruned one lacks, with the distribution of each."""
    missing = {}
    for each in distributions:
        if each.name in pruned.dropped:
            missing.update(dict.fromkeys(each.files, each.name))
        elif (files := pruned.kept.get(each.name)) is not None:
            stays = set(files)
            gone = (path for path in each.files if path not in stays and not always_kept(path))
            missing.update(dict.fromkeys(gone, each.name))
    return missing


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
