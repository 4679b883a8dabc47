"""A build that is killed at any moment leaves a cache that the next build can use, with the same result."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import LIGHTSHIP

pytestmark = [pytest.mark.network, pytest.mark.slow]

KILLS = 50


def test_fifty_kills(
    example: Callable[[str], Path], lightship: Callable[..., Any], succeed: Callable[..., Any], tmp_path: Path
) -> None:
    """Each round starts from what the killed ones before it left; every tenth from nothing at all."""
    folder = example("iris")
    assert lightship("lock", folder).status == 0
    cache = tmp_path / "cache"
    environ = {"LIGHTSHIP_CACHE": str(cache)}
    began = time.monotonic()
    expected = succeed("build", folder, environ=environ)["digest"]
    longest = time.monotonic() - began

    moments = random.Random(20261121)
    killed = 0
    for number in range(KILLS):
        if number % 10 == 0:
            shutil.rmtree(cache)
        else:
            _forget_some(cache, moments)
        process = subprocess.Popen(
            [str(LIGHTSHIP), "build", str(folder), "--quiet"],
            env={**os.environ, **environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moments.uniform(0.05, longest))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        if number % 5 == 4:
            assert succeed("build", folder, environ=environ)["digest"] == expected
    assert killed >= KILLS // 3, "most builds ended before they were killed; the moments are badly chosen"
    assert succeed("build", folder, environ=environ)["digest"] == expected


def _forget_some(cache: Path, moments: random.Random) -> None:
    """Remove some layers, so that the next build has work to be killed at."""
    records = sorted((cache / "v1" / "records" / "layers").glob("*.json"))
    for record in moments.sample(records, k=len(records) // 2):
        record.unlink()
