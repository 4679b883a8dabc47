"""The rooms of the builder: each imports what its folder's `__init__` allows, and nothing heavy comes at start."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightship

SOURCES = Path(lightship.__file__).parent
RUNTIME = "lightship_runtime"

# Modules at the top that know of no room; what stands on the right of one of them it may import.
CORE = {
    "errors": set(),
    "quantities": set(),
    "phases": set(),
    "progress": set(),
    "releases": set(),
    "assembled": set(),
    "cache": {"assembled", "errors"},
    "file_digests": {"assembled", "cache"},
    "session": {"cache", "progress"},
    "transport": {"errors"},
    "transfer": {"cache", "session", "transport"},
    "download": {"cache", "errors", "session", "transfer", "transport"},
}

# In the order of the pipeline (docs/architecture.md): a room imports only rooms above it.
ROOMS = {
    "hub": {"cache", "errors", "quantities", "session"},
    "models": {"errors", RUNTIME},
    "project": {"errors", "models", RUNTIME},
    "lock": {"cache", "file_digests", "download", "errors", "progress", "session", "transfer", "transport"},
    "plan": {"errors", "quantities", "releases", "project", "models", "lock", RUNTIME},
    "layers": {"assembled", "cache", "file_digests", "errors", "progress"},
    "oci": {"cache", "download", "errors", "progress", "session", "transfer", "transport", "layers"},
    "bases": {"cache", "download", "errors", "progress", "releases", "session", "layers", "oci"},
    "supply": {
        RUNTIME,  # the names of its settings
        *("cache", "download", "errors", "releases", "session", "transfer", "transport"),
        *("project", "lock", "layers", "oci", "bases"),
    },
    "run": {"cache", "errors", "progress", "session", "layers", "oci"},
    "building": {
        *("cache", "download", "errors", "session", "transfer", "transport"),
        *("project", "lock", "layers", "oci", "bases", "run"),
    },
    "optimize": {"cache", "file_digests", "errors", "session", "lock", "layers", "bases", "run", "building", RUNTIME},
    "contents": {"cache", "errors", "progress", "session", "layers", "oci", "bases", "run"},
    "verify": {"errors", "progress", "session", "layers", "oci", "run", RUNTIME},
    "testing": set(),
}

# The modules that put the rooms together. They may import every room on their left, and each other as listed.
PIPELINE = {
    "serve_config": {"cache", "plan", RUNTIME},
    "assemble": {"errors", "plan", "layers", "bases", "oci"},
    "locking": {
        *("cache", "errors", "releases", "session"),
        *("plan", "lock", "layers", "bases", "oci", "building", "optimize"),
    },
    "selection": {"errors", "session", "lock", "layers"},
    "pruning": {
        "errors",
        "phases",
        "session",
        "plan",
        "lock",
        "layers",
        "oci",
        "run",
        "verify",
        "locking",
        "selection",
    },
    "prefetching": {"errors", "phases", "session", "plan", "lock", "layers", "oci", "run", "verify", "locking"},
    "workshop": {"errors", "session", "lock", "plan", "layers", "bases", "oci", "locking", "selection"},
    "conversion": {
        *("cache", "errors", "session", "project", "plan", "lock", "layers", "bases", "oci", "optimize", "locking"),
        RUNTIME,
    },
    "build": {
        *(*CORE, *ROOMS, "serve_config", "assemble", "locking", "selection", "pruning", "prefetching"),
        *("workshop", "conversion"),
    }
    - {"run", "contents", "verify", "testing"},
}

ALLOWED = {**CORE, **ROOMS, **PIPELINE, "cli": {*CORE, *ROOMS, *PIPELINE, RUNTIME}}
HEAVY = ("rich", "urllib3", "packaging", "installer", "zstandard", "msgspec", "ssl", "http.client", "email")


def rooms_of(file: Path) -> Iterator[tuple[str, int]]:
    """The rooms that a file imports at any place, with the lines."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports by dots"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "lightship" else [module]
        for name in names:
            package, _, rest = name.partition(".")
            if package == RUNTIME:
                yield RUNTIME, node.lineno
            elif package == "lightship" and (room := rest.partition(".")[0]) != "__version__":
                yield room, node.lineno


def room_named(file: Path) -> str:
    return file.relative_to(SOURCES).parts[0].removesuffix(".py")


def test_every_room_imports_only_what_it_may() -> None:
    forbidden = [
        f"{file.relative_to(SOURCES)}:{line} imports {room}"
        for file in sorted(SOURCES.rglob("*.py"))
        if file != SOURCES / "__init__.py"
        for room, line in rooms_of(file)
        if room not in {room_named(file), *ALLOWED.get(room_named(file), ())}
    ]
    assert not forbidden


def test_rooms_import_only_rooms_that_stand_before_them() -> None:
    before: set[str] = {RUNTIME}
    for room, allowed in ALLOWED.items():
        assert allowed <= before, f"{room} comes too early"
        before.add(room)


def test_every_room_says_what_lives_there_and_names_what_it_imports() -> None:
    for room in sorted(ROOMS.keys() & {file.parent.name for file in SOURCES.glob("*/__init__.py")}):
        paragraph = ast.get_docstring(ast.parse((SOURCES / room / "__init__.py").read_bytes())) or ""
        used = {name for file in (SOURCES / room).rglob("*.py") for name, _ in rooms_of(file)} - {room, RUNTIME}
        unnamed = [name for name in used if f"`{name}`" not in paragraph]
        assert not unnamed, f"{room}/__init__.py does not name {unnamed}"


def test_the_runtime_never_imports_the_builder() -> None:
    import lightship_runtime

    for file in Path(lightship_runtime.__file__).parent.rglob("*.py"):
        assert {room for room, _ in rooms_of(file)} <= {RUNTIME}, file


@pytest.mark.parametrize("module", ["lightship", "lightship.cli"])
def test_nothing_heavy_is_imported_at_start(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# What a build needs only where something changed; looked at after everything that every build imports.
FOR_CHANGES = (
    *("installer", "urllib3", "ssl", "http.client", "email.parser", "packaging.requirements", "rich"),
    *("lightship.building", "lightship.run", "lightship.verify", "lightship.supply", "lightship.pruning"),
    "lightship.prefetching",
    *("lightship.lock.amend", "lightship.bases.debian.newest", "lightship.bases.debian.configure"),
)


def test_a_build_imports_what_changes_need_only_when_there_are_some() -> None:
    program = f"import sys, lightship.build; print(*(name for name in {FOR_CHANGES!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
