"""Locks of other tools: PEP 751 in and out, and uv.lock."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from package_index import PackageIndex, make_wheel, sha256_of
from packaging.pylock import Pylock

from lightship.cache import Cache
from lightship.errors import LockError, ProjectError
from lightship.lock import Inputs, Lock, Target, fetch_wheels, find_requirements, resolve, write_pylock
from lightship.lock.requirements import RequirementsSource
from lightship.session import Session


def wheel_entry(path: Path, **changes: Any) -> dict[str, Any]:
    return {"name": path.name, "url": path.as_uri(), "hashes": {"sha256": sha256_of(path)}, **changes}


def package(path: Path, *others: Path, **changes: Any) -> dict[str, Any]:
    name, version = path.name.split("-")[:2]
    wheels = [wheel_entry(each) for each in (path, *others)]
    return {"name": name.replace("_", "-"), "version": version, "wheels": wheels, **changes}


def pylock(folder: Path, *packages: dict[str, Any], **changes: Any) -> RequirementsSource:
    content = {"lock-version": "1.0", "created-by": "tests", "packages": list(packages), **changes}
    path = folder / "pylock.toml"
    path.write_text(tomli_w.dumps(content))
    source = find_requirements(folder)
    assert source is not None
    return source


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def test_a_pylock_is_taken_as_it_is_and_no_index_is_asked(
    index: PackageIndex, session: Session, target: Target, project: Path, shelf: Path
) -> None:
    native = make_wheel(shelf, "own", tag="cp311-cp311-manylinux_2_28_x86_64")
    plain, windows = make_wheel(shelf, "own"), make_wheel(shelf, "winonly")
    source = pylock(project, package(plain, native), package(windows, marker="sys_platform == 'win32'"))
    (wheel,) = resolve(source, [], target, session)
    assert (wheel.file, wheel.sha256, wheel.size) == (native.name, sha256_of(native), native.stat().st_size)
    assert fetch_wheels([wheel], session, target, source=source)
    assert index.requests == []


def test_paths_of_a_pylock_are_relative_to_it(
    session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    (project / "wheels").mkdir()
    wheel = make_wheel(project / "wheels", "own")
    entry = {"path": f"wheels/{wheel.name}", "hashes": {"sha256": sha256_of(wheel)}}
    source = pylock(project, {"name": "own", "version": "1.0", "wheels": [entry]})
    wheels = resolve(source, [], target, session)
    fresh = replace(session, cache=Cache(tmp_path / "fresh"))
    assert fetch_wheels(wheels, fresh, target, source=source)


def test_what_the_runtime_needs_is_resolved_around_a_pylock(
    index: PackageIndex, session: Session, target: Target, project: Path, shelf: Path
) -> None:
    own = make_wheel(shelf, "own", "1.0")
    index.wheel("own", "1.0", requires=["never"])
    index.wheel("server", requires=["own", "dep"])
    index.wheel("dep")
    source = pylock(project, package(own))
    assert {wheel.name for wheel in resolve(source, ["own>=1"], target, session)} == {"own"}
    assert index.requests == []
    index.folder.joinpath("own-1.0-py3-none-any.whl").write_bytes(own.read_bytes())
    wheels = {wheel.name: wheel for wheel in resolve(source, ["server", "own"], target, session)}
    assert set(wheels) == {"own", "server", "dep"}
    assert wheels["own"].sha256 == sha256_of(own)
    with pytest.raises(LockError, match="own>=2"):
        resolve(source, ["own>=2"], target, session)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wheels": [], "vcs": {"type": "git", "url": "https://x", "commit-id": "1"}}, "own: no wheel fits"),
        ({"wheels": [], "directory": {"path": "."}}, "own: no wheel fits"),
        ({"requires-python": ">=3.12"}, "nothing for Python 3.11"),
    ],
)
def test_a_pylock_without_a_wheel_that_fits_is_refused(
    session: Session, target: Target, project: Path, shelf: Path, changes: dict[str, Any], message: str
) -> None:
    source = pylock(
        project, {key: value for key, value in package(make_wheel(shelf, "own"), **changes).items() if value}
    )
    with pytest.raises(LockError, match=message) as caught:
        resolve(source, [], target, session)
    assert "pylock.toml" in caught.value.message and caught.value.hint


def test_a_pylock_with_wheels_for_others_only_is_refused(
    session: Session, target: Target, project: Path, shelf: Path
) -> None:
    source = pylock(project, package(make_wheel(shelf, "own", tag="cp311-cp311-win_amd64")))
    with pytest.raises(LockError, match="own"):
        resolve(source, [], target, session)


def test_a_pylock_without_sha256_is_refused(session: Session, target: Target, project: Path, shelf: Path) -> None:
    wheel = make_wheel(shelf, "own")
    entry = wheel_entry(wheel, hashes={"md5": "0"})
    source = pylock(project, {"name": "own", "version": "1.0", "wheels": [entry]})
    with pytest.raises(LockError, match="no sha256"):
        resolve(source, [], target, session)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("[[packages", ProjectError),
        ("lock-version = '1.0'\n", LockError),
        ("lock-version = '9.0'\ncreated-by = 'x'\npackages = []\n", LockError),
        ("lock-version = '1.0'\ncreated-by = 'x'\npackages = 3\n", LockError),
        ("lock-version = '1.0'\ncreated-by = 'x'\n[[packages]]\nname = 'a'\nwheels = [3]\n", LockError),
        ("lock-version = '1.0'\ncreated-by = 'x'\n[[packages]]\nname = 'a'\nwheels = [{hashes = 3}]\n", LockError),
    ],
)
def test_a_broken_pylock_is_named(
    session: Session, target: Target, project: Path, content: str, error: type[Exception]
) -> None:
    path = project / "pylock.toml"
    path.write_text(content)
    with pytest.raises(error, match=r"pylock\.toml"):
        resolve(RequirementsSource("pylock", path), [], target, session)


def test_our_lock_as_a_pylock_is_valid_and_installs_the_same(
    index: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    index.wheel("a", tag="cp311-cp311-manylinux_2_28_x86_64")
    index.wheel("b", "2.0")
    (project / "requirements.txt").write_text("a\nb\n")
    source = find_requirements(project)
    assert source is not None
    wheels = resolve(source, [], target, session)
    lock = Lock(target=target, inputs=Inputs(requirements="r", base="b"), wheels=wheels)
    exported = tmp_path / "exported"
    (exported / "wheels").mkdir(parents=True)
    write_pylock(lock, exported / "pylock.toml")
    text = (exported / "pylock.toml").read_text()
    assert "://" not in text
    Pylock.from_dict(tomllib.loads(text)).validate()
    for sha256, blob in fetch_wheels(wheels, session, target).items():
        (file,) = (wheel.file for wheel in wheels if wheel.sha256 == sha256)
        (exported / "wheels" / file).write_bytes(blob.read_bytes())
    again = find_requirements(exported)
    assert again is not None
    index.forget_requests()
    assert resolve(again, [], target, session) == wheels
    assert index.requests == []


def test_a_pylock_with_urls_on_request(session: Session, target: Target, project: Path, shelf: Path) -> None:
    wheel = make_wheel(shelf, "own")
    wheels = resolve(pylock(project, package(wheel)), [], target, session)
    lock = Lock(target=target, inputs=Inputs(requirements="r", base="b"), wheels=wheels)
    write_pylock(lock, project / "pylock.toml", {wheels[0].sha256: wheel.as_uri()})
    source = find_requirements(project)
    assert source is not None
    assert resolve(source, [], target, session) == wheels


def test_a_uv_lock_is_taken_as_it_is(index: PackageIndex, session: Session, target: Target, project: Path) -> None:
    index.wheel("dep", "1.0")
    index.wheel("dev-only", "1.0")
    index.wheel("winonly", "1.0")
    index.wheel("own", "1.0", requires=["dep", "winonly; sys_platform == 'win32'"])
    (project / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["own"]\n'
        '[dependency-groups]\ndev = ["dev-only"]\n'
    )
    import uv

    command = [uv.find_uv_bin(), "lock", "--quiet", "--no-python-downloads", "--python", sys.executable]
    subprocess.run(command, cwd=project, env=dict(session.environ), check=True)
    index.wheel("dep", "2.0")
    source = find_requirements(project)
    assert source is not None and source.kind == "uv.lock"
    index.forget_requests()
    wheels = resolve(source, [], target, session)
    assert {wheel.name: wheel.version for wheel in wheels} == {"dep": "1.0", "own": "1.0"}
    assert index.requests == []
    assert fetch_wheels(wheels, session, target, source=source)


def test_a_broken_uv_lock_is_an_error(session: Session, target: Target, project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\n')
    (project / "uv.lock").write_text("version = 1\n[[package]]\nname = 3\n")
    source = find_requirements(project)
    assert source is not None
    with pytest.raises(LockError, match=r"uv\.lock"):
        resolve(source, [], target, session)
