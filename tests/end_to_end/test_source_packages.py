"""Projects with packages that are source only, from a folder to an answer; one of them with no network at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Outcome
from source_packages import package_files, write_package, write_sdist

from lightship.cache import Cache
from lightship.lock import fetch_wheels, read_lock
from lightship.session import Session

pytestmark = pytest.mark.network

SERVER = """
import own

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b'{"answer": %d}' % own.VALUE
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "serve.py").write_text(SERVER)
    (folder / "lightship.toml").write_text('[serve]\napp = "serve:app"\nhealth = "/"\n')
    golden = {"request": {}, "response": {"answer": 42}}
    (folder / "golden.json").write_text(json.dumps(golden))
    return folder


def test_a_project_with_a_local_package_answers(
    project: Path, succeed: Callable[..., Any], lightship: Callable[..., Outcome]
) -> None:
    (project / "requirements.txt").write_text("-e ./packages/own\n")
    code = f"# {os.urandom(8).hex()}\nVALUE = 42\n"
    write_package(project / "packages" / "own", package_files("own", code=code))
    proven = succeed("up", project, "--once", "--engine", "embedded")
    assert (proven["proven"], proven["answer"]) == (True, {"answer": 42})
    lock = (project / "lightship.lock").read_text()
    assert 'place = "packages/own"' in lock
    assert str(project) not in lock
    assert lightship("lock", project, "--check").status == 0
    (project / "packages" / "own" / "own.py").write_text("VALUE = 43\n")
    assert lightship("lock", project, "--check").status == 3  # the package is another, so is what was locked


def test_a_wheelhouse_is_enough_to_lock_and_build_offline(
    project: Path, succeed: Callable[..., Any], shared_cache: Path, tmp_path: Path
) -> None:
    """Everything from a folder: sdists, build requirements and the wheels of the runtime itself."""
    house = tmp_path / "wheelhouse"
    # The base, and the runtime's own wheels, from a first build with a network.
    (project / "requirements.txt").write_text("")
    (project / "serve.py").write_text(SERVER.replace("import own\n", "").replace("own.VALUE", "42"))
    succeed("build", project)
    house.mkdir()
    _fill(house, project, shared_cache)

    write_sdist(house, "own", package_files("own", code=f"# {os.urandom(8).hex()}\nVALUE = 42\n"))
    (project / "serve.py").write_text(SERVER)
    (project / "requirements.txt").write_text("own\n")
    offline = {"UV_FIND_LINKS": str(house), "UV_NO_INDEX": "1", "UV_CACHE_DIR": str(tmp_path / "empty")}
    offline |= dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    succeed("lock", project, "--offline", environ=offline)
    succeed("build", project, "--offline", environ=offline)
    proven = succeed("up", project, "--once", "--engine", "embedded", "--offline", environ=offline)
    assert proven["answer"] == {"answer": 42}


def _fill(house: Path, project: Path, cache: Path) -> None:
    """The wheels that a lock names, under their own names, out of the cache."""
    lock = read_lock(project / "lightship.lock")
    assert lock is not None
    target, session = lock.target, Session(Cache(cache), environ=dict(os.environ))
    for sha256, path in fetch_wheels(lock.wheels, session, target, directory=project).items():
        (name,) = (wheel.file for wheel in lock.wheels if wheel.sha256 == sha256)
        shutil.copy(path, house / name)
