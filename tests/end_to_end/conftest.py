"""`lightship` as a person runs it: a process of its own, on a copy of an example, with a cache that tests share.

The shared cache holds what the index and the mirror gave, so that each test does not fetch it again; tests about
caching itself make their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import LIGHTSHIP, ROOT, Outcome


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an example, without its lock."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        shutil.copytree(ROOT / "examples" / name, target, ignore=shutil.ignore_patterns("*.lock", "__pycache__"))
        return target

    return copy


@pytest.fixture
def lightship(shared_cache: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Run `lightship ARGUMENTS`; `environ` is added to this process's own environment."""

    def run(*arguments: object, environ: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Outcome:
        done = subprocess.run(
            [*prefix, str(LIGHTSHIP), *map(str, arguments)],
            env={**os.environ, "LIGHTSHIP_CACHE": str(shared_cache), **(environ or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def succeed(lightship: Callable[..., Outcome]) -> Callable[..., Any]:
    """Run `lightship ARGUMENTS --json`, which must end well, and return its document."""

    def run(*arguments: object, **options: Any) -> Any:
        outcome = lightship(*arguments, "--json", **options)
        assert outcome.status == 0, outcome.stdout + outcome.stderr
        return outcome.document

    return run
