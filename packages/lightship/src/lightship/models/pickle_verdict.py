"""Judging a pickle by the names it imports: safe, unknown or dangerous.

A list of dangerous names alone leaks, because any installed package may hold a function that runs programs; a
list of safe names alone cries wolf. So there are three answers, and *safe* is the strict one: every name must be
on a list of classes and constructors that only make data. Names are judged as Python 3 resolves them, old
Python 2 names among them.
"""

from __future__ import annotations

import _compat_pickle

from lightship.models.model import PickleVerdict, Verdict
from lightship.models.pickle_machine import Reading
from lightship.models.pickle_names import (
    DANGEROUS_MODULES,
    DANGEROUS_NAMES,
    SAFE_CLASSES,
    SAFE_FUNCTIONS,
    SAFE_NAMES,
)
from lightship.models.pickle_values import Global


def judge(reading: Reading) -> PickleVerdict:
    """The verdict over everything that a pickle imports."""
    standing: dict[str, set[str]] = {"safe": set(), "unknown": set(), "dangerous": set()}
    for name in reading.globals:
        standing[_standing(name)].add(_shown(name))
    standing["unknown"].update(f"({oddity})" for oddity in reading.oddities)
    unknown, dangerous = tuple(sorted(standing["unknown"])), tuple(sorted(standing["dangerous"]))
    verdict: Verdict = "safe"
    if dangerous:
        verdict = "dangerous"
    elif unknown or reading.incomplete:
        verdict = "unknown"
    return PickleVerdict(verdict, unknown, dangerous, reading.incomplete)


def _shown(name: Global) -> str:
    """The name for people: printable and on one line."""
    if name == Global("?", "?"):
        return "(a name that is computed)"
    text = str(name)
    return text if text.isprintable() else repr(text)


def _standing(name: Global) -> str:
    today = _as_python_3(name)
    if _is_dangerous(name) or _is_dangerous(today):
        return "dangerous"
    return "safe" if _is_safe(today) else "unknown"


def _as_python_3(name: Global) -> Global:
    """What Python 3 looks up for a name of Python 2 in an old protocol."""
    if mapped := _compat_pickle.NAME_MAPPING.get((name.module, name.name)):
        return Global(*mapped)
    return Global(_compat_pickle.IMPORT_MAPPING.get(name.module, name.module), name.name)


def _is_dangerous(name: Global) -> bool:
    parts = str(name).split(".")
    if any(".".join(parts[:end]) in DANGEROUS_MODULES for end in range(1, len(parts) + 1)):
        return True
    # A name with dots walks through attributes: `os.system` in `sklearn.base` is os.system.
    walked = name.name.split(".")
    if len(walked) > 1 and any(part in DANGEROUS_MODULES or part.startswith("__") for part in walked):
        return True
    return str(name) in DANGEROUS_NAMES or ".".join(parts[-2:]) in DANGEROUS_NAMES


def _is_safe(name: Global) -> bool:
    if "." in name.name:
        return False
    text = str(name)
    return bool(text in SAFE_NAMES or SAFE_FUNCTIONS.fullmatch(text) or SAFE_CLASSES.fullmatch(text))
