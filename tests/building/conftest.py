"""A builder on a real base, with an index of its own for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine import absent
from package_index import PackageIndex
from workshop import Workshop

from lightship.bases.debian import DebianLock
from lightship.bases.debian.newest import lock_debian
from lightship.cache import Cache
from lightship.run.embedded import EmbeddedEngine
from lightship.session import Session


@pytest.fixture(scope="session")
def debian_lock(shared_cache: Path) -> DebianLock:
    return lock_debian("bookworm", "amd64", (), Session(Cache(shared_cache), environ=dict(os.environ), jobs=2))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PackageIndex]:
    with PackageIndex(tmp_path / "index") as running:
        yield running


@pytest.fixture
def environ(tmp_path: Path, index: PackageIndex) -> dict[str, str]:
    """Nothing of the machine's own uv, pip and git configuration, and an index on loopback."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CONFIG_DIRS": str(home / "none"),
        "PIP_CONFIG_FILE": "/dev/null",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "UV_HTTP_RETRIES": "0",
        "UV_DEFAULT_INDEX": index.simple,
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def workshop(shared_cache: Path, environ: dict[str, str], project: Path, debian_lock: DebianLock) -> Workshop:
    """Its cache is shared with other runs; what a test builds is its own by its content."""
    if why := EmbeddedEngine().why_not():
        absent(f"there can be no sandbox here: {why}")
    return Workshop(Session(Cache(shared_cache), environ=environ, jobs=2), project, debian_lock)


@pytest.fixture
def unique(tmp_path: Path) -> Callable[[str], str]:
    """Code that no test before had, so that nothing is found in the cache that all share."""
    return lambda code: f"# {os.urandom(8).hex()}\n{code}"
