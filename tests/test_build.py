"""Whole builds against an index and an archive of this machine: what has gone from them, and what is newer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from debian_archive import Signer, Suite, runtime_packages
from package_index import PackageIndex
from packaging.requirements import Requirement

from lightship.build import build
from lightship.cache import Cache
from lightship.errors import LockError
from lightship.layers.runtime import runtime_requirements
from lightship.lock import WheelsGoneError, read_lock
from lightship.locking import bring_up_to_date, move_base, move_wheels
from lightship.oci.image import Platform
from lightship.plan import make_plan
from lightship.plan.server import APPLICATION_REQUIREMENTS
from lightship.project import load_project
from lightship.session import Session

pytestmark = [
    pytest.mark.tool("gpg"),
    pytest.mark.tool("gpgv"),
    # The archive's Python is a text file, so this one compiles in its place, which must be of the same version.
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the packages of the test are those of Python 3.11"),
]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PackageIndex]:
    with PackageIndex(tmp_path / "index") as running:
        running.wheel("plain")
        for requirement in map(Requirement, (*runtime_requirements(), *APPLICATION_REQUIREMENTS)):
            running.wheel(requirement.name)
        yield running


@pytest.fixture
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(tmp_path_factory.mktemp("g") / "home")
    yield made
    made.close()


@pytest.fixture
def session(index: PackageIndex, tmp_path: Path) -> Session:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": "/dev/null",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "UV_HTTP_RETRIES": "0",
        "UV_DEFAULT_INDEX": index.simple,
    }
    return Session(Cache(tmp_path / "cache"), environ=environ, jobs=2)


@pytest.fixture
def mirror(signer: Signer, tmp_path: Path) -> Path:
    directory = tmp_path / "mirror"
    for suite in (Suite("bookworm", runtime_packages()), Suite("bookworm-updates"), Suite("bookworm-security")):
        suite.publish(directory, signer.sign)
    return directory


@pytest.fixture
def folder(index: PackageIndex, mirror: Path, signer: Signer, session: Session, tmp_path: Path) -> Path:
    """A project that is locked, and nothing of it fetched."""
    made = tmp_path / "project"
    made.mkdir()
    (made / "serve.py").write_text("def application(environ, start_response): ...\n")
    (made / "requirements.txt").write_text("plain>=1\n")
    (made / "lightship.toml").write_text(
        f'[serve]\napp = "serve:application"\n[base]\nmirror = "{mirror.as_uri()}"\nkeyring = "{signer.keyring}"\n'
    )
    bring_up_to_date(make_plan(load_project(made)), Platform(), session)
    return made


def publish_newer_tzdata(mirror: Path, signer: Signer) -> Path:
    """Debian's next day. Returns the file of the package that was locked."""
    packages = runtime_packages()
    [position] = [number for number, package in enumerate(packages) if package.name == "tzdata"]
    old = mirror / packages[position].path
    packages[position] = replace(packages[position], version="2026b")
    Suite("bookworm", packages).publish(mirror, signer.sign)
    return old


def test_a_package_that_has_left_the_mirror_locks_the_base_anew(
    folder: Path, mirror: Path, signer: Signer, session: Session
) -> None:
    publish_newer_tzdata(mirror, signer).unlink()
    before = read_lock(folder / "lightship.lock")
    made = build(load_project(folder), session)
    after = read_lock(folder / "lightship.lock")
    assert before and after
    assert after.wheels == before.wheels
    assert any("tzdata" in change and "2026b" in change for change in made.lock_changes)
    assert made.layout.is_dir()


def test_a_wheel_that_has_left_the_index_is_told_and_the_lock_stays(
    folder: Path, mirror: Path, signer: Signer, index: PackageIndex, session: Session
) -> None:
    publish_newer_tzdata(mirror, signer)  # which is no reason to lock it
    before = (folder / "lightship.lock").read_bytes()
    index.folder.joinpath("plain-1.0-py3-none-any.whl").unlink()
    index.wheel("plain", "2.0")
    elsewhere = replace(session, environ={**session.environ, "UV_CACHE_DIR": str(folder.parent / "other-uv")})
    with pytest.raises(WheelsGoneError, match="plain"):
        build(load_project(folder), elsewhere)
    assert (folder / "lightship.lock").read_bytes() == before


def test_an_update_moves_the_base_and_leaves_the_wheels(
    folder: Path, mirror: Path, signer: Signer, index: PackageIndex, session: Session
) -> None:
    plan = make_plan(load_project(folder))
    assert move_base(plan, Platform(), session).changes == ()
    publish_newer_tzdata(mirror, signer)
    index.wheel("plain", "2.0")
    before = read_lock(folder / "lightship.lock")
    (change,) = move_base(plan, Platform(), session).changes
    assert change.startswith("base: tzdata ") and change.endswith(" -> 2026b")
    after = read_lock(folder / "lightship.lock")
    assert before and after
    assert (after.wheels, after.inputs) == (before.wheels, before.inputs)
    assert bring_up_to_date(plan, Platform(), session, locked=True).lock == after


def test_an_update_of_the_wheels_leaves_the_base(
    folder: Path, mirror: Path, signer: Signer, index: PackageIndex, session: Session
) -> None:
    plan = make_plan(load_project(folder))
    publish_newer_tzdata(mirror, signer)
    index.wheel("plain", "2.0")
    before = read_lock(folder / "lightship.lock")
    elsewhere = replace(session, environ={**session.environ, "UV_CACHE_DIR": str(folder.parent / "other-uv")})
    assert move_wheels(plan, Platform(), elsewhere).changes == ("plain 1.0 -> 2.0",)
    after = read_lock(folder / "lightship.lock")
    assert before and after
    assert after.base == before.base


def test_an_update_wants_a_lock_that_fits(folder: Path, session: Session) -> None:
    before = (folder / "lightship.lock").read_bytes()
    (folder / "requirements.txt").write_text("plain>=0.5\n")
    plan = make_plan(load_project(folder))
    for move in (move_base, move_wheels):
        with pytest.raises(LockError, match="stale"):
            move(plan, Platform(), session)
    assert (folder / "lightship.lock").read_bytes() == before
    (folder / "lightship.lock").unlink()
    with pytest.raises(LockError, match="There is no"):
        move_base(plan, Platform(), session)
