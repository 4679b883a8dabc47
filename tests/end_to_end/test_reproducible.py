"""Same inputs, same digest: whatever the folder, the hash seed, the umask, the user and the number of cores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import LIGHTSHIP

pytestmark = pytest.mark.network

# A process that is not root: its user ID is 1000, it has no capabilities. (In a namespace of its own, so that it can
# still read an interpreter that lies in root's home.)
NORMAL_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


def build(folder: Path, home: Path, *, seed: str, umask: int, cores: int, prefix: tuple[str, ...] = ()) -> Any:
    """Build in an environment whose cache, home and uv cache are empty."""
    home.mkdir()
    environ = {**os.environ, "HOME": str(home), "LIGHTSHIP_CACHE": str(home / "cache"), "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [*prefix, str(LIGHTSHIP), "build", str(folder), "--json"],
        env=environ | {"UV_CACHE_DIR": str(home / "uv")},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores]),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.tool("unshare")
def test_one_digest_for_all(example: Callable[[str], Path], lightship: Callable[..., Any], tmp_path: Path) -> None:
    folder = example("iris")
    assert lightship("lock", folder).status == 0
    first = build(folder, tmp_path / "one", seed="1", umask=0o022, cores=2)

    again = tmp_path / "another" / "place" / "iris"
    shutil.copytree(folder, again)
    for path in [again, *again.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    second = build(again, tmp_path / "two", seed="12345", umask=0o077, cores=1, prefix=NORMAL_USER)

    assert second["digest"] == first["digest"]
    assert second["image_id"] == first["image_id"]
