"""What every test may ask for: a session with a cache of its own, and external programs by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lightship.cache import Cache
from lightship.session import Session

IN_CI = os.environ.get("CI") == "true"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tool(name): needs an external program")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("tool"):
        (name,) = marker.args
        if shutil.which(name) is None:
            reason = f"the program {name!r} is not installed"
            if IN_CI:
                pytest.fail(f"{reason}, but in CI it must be")
            pytest.skip(reason)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A session with an empty cache and the caller's environment."""
    return Session(cache=Cache(tmp_path / "cache"), environ=dict(os.environ), jobs=2)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory that lasts for the whole run, for tests that download real packages."""
    if chosen := os.environ.get("LIGHTSHIP_TEST_CACHE"):
        return Path(chosen)
    return tmp_path_factory.getbasetemp().parent / "shared-cache"
