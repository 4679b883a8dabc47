"""An index of its own for every test, and a session that knows no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from package_index import PackageIndex

from lightship.cache import Cache
from lightship.lock import Target
from lightship.session import Session


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PackageIndex]:
    with PackageIndex(tmp_path / "index") as running:
        yield running


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Nothing of the machine's own uv and pip configuration."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CONFIG_DIRS": str(home / "none"),
        "PIP_CONFIG_FILE": "/dev/null",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "UV_HTTP_RETRIES": "0",
    }


@pytest.fixture
def session(index: PackageIndex, environ: dict[str, str], tmp_path: Path) -> Session:
    return Session(Cache(tmp_path / "cache"), environ=environ | {"UV_DEFAULT_INDEX": index.simple})


@pytest.fixture
def target() -> Target:
    return Target("3.11", "linux/amd64", (2, 36))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder
