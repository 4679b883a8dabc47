"""Same inputs, same digest: whatever the folder, the hash seed, the umask, the user and the number of cores."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import LIGHTSHIP

pytestmark = pytest.mark.network

NOBODY = 65534


def build(folder: Path, cache: Path, *, seed: str, umask: int, user: int | None = None, cores: int = 2) -> Any:
    import json

    environ = {**os.environ, "LIGHTSHIP_CACHE": str(cache), "PYTHONHASHSEED": seed, "HOME": str(cache.parent)}
    environ["UV_CACHE_DIR"] = str(cache.parent / "uv")
    done = subprocess.run(
        [str(LIGHTSHIP), "build", str(folder), "--json"],
        env=environ,
        umask=umask,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores]),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_one_digest_for_all(example: Callable[[str], Path], lightship: Callable[..., Any], tmp_path: Path) -> None:
    folder = example("iris")
    assert lightship("lock", folder).status == 0
    first = build(folder, tmp_path / "one" / "cache", seed="1", umask=0o022)

    again = tmp_path / "another" / "place"
    shutil.copytree(folder, again)
    for path in [again, *again.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    home = tmp_path / "two"
    home.mkdir()
    user = None
    if os.geteuid() == 0:
        if not _can_be_reached_by_others(tmp_path):
            pytest.skip("the temporary folder is closed to other users")
        user = NOBODY
        for path in [home, again, *again.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    second = build(again, home / "cache", seed="12345", umask=0o077, user=user, cores=1)

    assert second["digest"] == first["digest"]
    assert second["image_id"] == first["image_id"]


def _can_be_reached_by_others(path: Path) -> bool:
    """pytest's folders are 0700; open the way down to this test's own for the other user."""
    for folder in [path, *path.parents]:
        if "pytest" in folder.name or folder.name.startswith("test_"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return all(folder.stat().st_mode & 0o001 for folder in [path, *path.parents])
