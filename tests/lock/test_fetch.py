"""Fetching locked wheels: from the cache, from where they were, from wherever the configuration has them now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from package_index import PackageIndex, make_wheel, sha256_of

from lightship.cache import Cache
from lightship.errors import IntegrityError, NetworkError
from lightship.lock import (
    LockedWheel,
    Target,
    WheelsGoneError,
    fetch_wheels,
    find_requirements,
    proposed_requirements,
    resolve,
)
from lightship.session import Session


def lock(session: Session, target: Target, project: Path, *lines: str) -> tuple[LockedWheel, ...]:
    return resolve(proposed_requirements(lines, project), [], target, session)


def elsewhere(session: Session, tmp_path: Path, name: str = "elsewhere") -> Session:
    """The same configuration with an empty cache, as on another machine."""
    environ = {**session.environ, "UV_CACHE_DIR": str(tmp_path / name / "uv")}
    return replace(session, cache=Cache(tmp_path / name), environ=environ)


def test_what_was_just_locked_is_fetched_without_asking_the_index(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    files = [index.wheel("a"), index.wheel("b")]
    wheels = lock(session, target, project, "a", "b")
    index.forget_requests()
    paths = fetch_wheels(wheels, session, target)
    assert {path.read_bytes() for path in paths.values()} == {file.read_bytes() for file in files}
    assert sorted(index.asked()) == [f"/files/{file.name}" for file in files]


def test_what_is_cached_needs_nothing_at_all(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("a")
    wheels = lock(session, target, project, "a")
    fetch_wheels(wheels, session, target)
    index.forget_requests()
    fetch_wheels(wheels, replace(session, offline=True, environ={}), target)
    assert index.requests == []


def test_a_lock_from_another_machine_is_found_through_the_users_own_index(
    index: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    index.wheel("a", tag="cp311-cp311-manylinux_2_17_x86_64")
    plain = index.wheel("a")
    index.wheel("a", "2.0")
    wheels = (
        LockedWheel(name="a", version="1.0", file=plain.name, size=plain.stat().st_size, sha256=sha256_of(plain)),
    )
    paths = fetch_wheels(wheels, elsewhere(session, tmp_path), target, directory=project)
    assert paths[wheels[0].sha256].read_bytes() == plain.read_bytes()


def test_a_lock_works_behind_another_index_and_in_a_folder(
    index: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    wheel = index.wheel("a")
    wheels = lock(session, target, project, "a")
    with PackageIndex(tmp_path / "mirror") as mirror:
        (mirror.folder / wheel.name).write_bytes(wheel.read_bytes())
        index.forget_requests()
        moved = replace(session, environ={**session.environ, "UV_DEFAULT_INDEX": mirror.simple})
        fetch_wheels(wheels, moved, target)
        assert f"/files/{wheel.name}" in mirror.asked()
        assert index.requests == []
    there = elsewhere(session, tmp_path)
    environ = {**there.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index.folder)}
    del environ["UV_DEFAULT_INDEX"]
    assert fetch_wheels(wheels, replace(there, environ=environ, offline=True), target)


def test_an_address_that_has_gone_is_looked_up_again(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    wheel = index.wheel("a")
    wheels = lock(session, target, project, "a")
    index.statuses[f"/files/{wheel.name}"] = [404]
    assert fetch_wheels(wheels, session, target, directory=project)


@pytest.mark.parametrize("same_machine", [True, False])
def test_a_wheel_that_is_no_longer_offered_is_named(
    index: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path, same_machine: bool
) -> None:
    index.wheel("stays")
    index.wheel("stays", "2.0")
    gone = index.wheel("leaves")
    wheels = lock(session, target, project, "stays==1.0", "leaves")
    gone.unlink()
    index.wheel("leaves", "2.0")
    where = session if same_machine else elsewhere(session, tmp_path)
    with pytest.raises(WheelsGoneError) as caught:
        fetch_wheels(wheels, where, target)
    assert "leaves 1.0" in caught.value.message
    assert "stays" not in caught.value.message
    assert "lightship lock" in (caught.value.hint or "")


def test_a_file_that_was_replaced_under_its_name_is_no_longer_offered(
    index: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    wheel = index.wheel("a")
    wheels = lock(session, target, project, "a")
    index.wheel("a", requires=["other"])
    with pytest.raises(IntegrityError, match=r"a 1\.0"):
        fetch_wheels(wheels, session, target)
    with pytest.raises(WheelsGoneError, match=wheel.name):
        fetch_wheels(wheels, elsewhere(session, tmp_path), target)


def test_offline_names_what_is_missing(
    index: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    index.wheel("a")
    wheels = lock(session, target, project, "a")
    for where in (session, elsewhere(session, tmp_path)):
        index.forget_requests()
        with pytest.raises(NetworkError, match=r"a 1\.0"):
            fetch_wheels(wheels, replace(where, offline=True), target)
        assert index.requests == []


def test_logins_of_the_index_are_used_and_never_written_down(
    index: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    index.wheel("a")
    index.sizes = False
    index.login = ("ship", "s3cret")
    address = f"http://ship:s3cret@127.0.0.1:{index.port}/simple"
    in_url = {**session.environ, "UV_DEFAULT_INDEX": address}
    named = {
        **session.environ,
        "UV_DEFAULT_INDEX": f"harbour={index.simple}",
        "UV_INDEX_HARBOUR_USERNAME": "ship",
        "UV_INDEX_HARBOUR_PASSWORD": "s3cret",
    }
    of_pip = {**{k: v for k, v in session.environ.items() if k != "UV_DEFAULT_INDEX"}, "PIP_INDEX_URL": address}
    for number, environ in enumerate((in_url, named, of_pip)):
        fresh = elsewhere(replace(session, environ=environ), tmp_path, f"machine{number}")
        wheels = lock(fresh, target, project, "a")
        assert fetch_wheels(wheels, fresh, target)
        for path in (fresh.cache.root).rglob("*.json"):
            assert "s3cret" not in path.read_text()


def test_wheels_named_by_path_are_found_again_through_the_requirements(
    session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    wheel = make_wheel(project, "own")
    (project / "requirements.txt").write_text(f"./{wheel.name}\n")
    source = find_requirements(project)
    assert source is not None
    wheels = resolve(source, [], target, session)
    assert fetch_wheels(wheels, session, target)
    assert fetch_wheels(wheels, elsewhere(session, tmp_path), target, source=source)


def test_index_options_of_the_requirements_are_used(
    index: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    index.wheel("a")
    (project / "requirements.txt").write_text("--index-url ${PLACE}\na\n")
    source = find_requirements(project)
    assert source is not None
    environ = {**session.environ, "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PLACE": index.simple}
    del environ["UV_DEFAULT_INDEX"]
    there = replace(session, environ=environ)
    wheels = resolve(source, [], target, there)
    assert fetch_wheels(wheels, elsewhere(there, tmp_path), target, source=source)
