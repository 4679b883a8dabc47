"""Resolving: one wheel per package for the image, whatever runs the builder; failures that say what to do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from package_index import PackageIndex, make_wheel, sha256_of

from lightship.cache import Cache
from lightship.errors import LockError, NetworkError
from lightship.lock import LockedWheel, Target, fetch_wheels, proposed_requirements, requirements_input, resolve
from lightship.lock.requirements import RequirementsSource
from lightship.session import Session


def listed(project: Path, *lines: str) -> RequirementsSource:
    return proposed_requirements(lines, project)


def written(project: Path, *lines: str) -> RequirementsSource:
    path = project / "requirements.txt"
    path.write_text("\n".join(lines))
    return RequirementsSource("requirements", path)


def versions(wheels: tuple[LockedWheel, ...]) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in wheels}


def test_every_wheel_is_locked_with_size_and_hash(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    wheel = index.wheel("Sail_Boat", "2.0", requires=["mast>=1"])
    index.wheel("mast", "1.5")
    wheels = resolve(listed(project, "sail-boat"), [], target, session)
    assert versions(wheels) == {"mast": "1.5", "sail-boat": "2.0"}
    locked = next(each for each in wheels if each.name == "sail-boat")
    assert (locked.file, locked.size, locked.sha256) == (wheel.name, wheel.stat().st_size, sha256_of(wheel))


def test_sizes_that_the_index_does_not_tell_are_asked_for_once(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.sizes = False
    wheel = index.wheel("hull")
    source = listed(project, "hull")
    (locked,) = resolve(source, [], target, session)
    assert locked.size == wheel.stat().st_size

    def questions() -> int:
        """How often we asked; uv asks for its own reasons."""
        ours = [request for request in index.requests if request.headers["User-Agent"].startswith("lightship/")]
        return len(ours)

    assert questions() == 1
    resolve(source, [], target, session)
    assert questions() == 1


def test_the_wheel_fits_the_image_and_not_the_builder(index: PackageIndex, session: Session, project: Path) -> None:
    for tag in (
        "py3-none-any",
        "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_38_x86_64",
        "cp311-cp311-musllinux_1_2_x86_64",
        "cp313-cp313-manylinux_2_28_aarch64",
        "cp311-cp311-win_amd64",
    ):
        index.wheel("keel", tag=tag)
    source = listed(project, "keel")

    def tag_for(target: Target) -> str:
        (wheel,) = resolve(source, [], target, session)
        return wheel.file.removeprefix("keel-1.0-").removesuffix(".whl")

    assert tag_for(Target("3.11", "linux/amd64", (2, 36))) == "cp311-cp311-manylinux_2_28_x86_64"
    assert tag_for(Target("3.11", "linux/amd64", (2, 41))) == "cp311-cp311-manylinux_2_38_x86_64"
    assert tag_for(Target("3.11", "linux/amd64", (2, 17))).startswith("cp311-cp311-manylinux_2_17")
    assert tag_for(Target("3.13", "linux/arm64", (2, 36))) == "cp313-cp313-manylinux_2_28_aarch64"
    assert tag_for(Target("3.12", "linux/amd64", (2, 36))) == "py3-none-any"


def test_of_two_builds_of_a_wheel_the_later_one_is_taken(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    for build in ("1", "10", "2"):
        index.wheel("anchor", build=build)
    (wheel,) = resolve(listed(project, "anchor"), [], target, session)
    assert wheel.file == "anchor-1.0-10-py3-none-any.whl"


def test_markers_are_those_of_the_image(index: PackageIndex, session: Session, target: Target, project: Path) -> None:
    markers = {"a": "sys_platform == 'linux'", "b": "sys_platform == 'win32'", "c": "python_version < '3.12'"}
    for name in markers:
        index.wheel(name)
    source = written(project, *(f"{name}; {marker}" for name, marker in markers.items()))
    assert set(versions(resolve(source, [], target, session))) == {"a", "c"}
    assert set(versions(resolve(source, [], replace(target, python="3.13"), session))) == {"a"}


def test_a_version_for_a_newer_python_is_not_taken(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("rope", "1.0")
    index.wheel("rope", "2.0", requires_python=">=3.12")
    assert versions(resolve(listed(project, "rope"), [], target, session)) == {"rope": "1.0"}


def test_extra_requirements_are_resolved_together_with_the_users(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    for version in ("1.0", "2.0"):
        index.wheel("bell", version)
    index.wheel("server", requires=["bell>=1"])
    assert versions(resolve(written(project, "bell==1.0"), ["server"], target, session)) == {
        "bell": "1.0",
        "server": "1.0",
    }
    assert versions(resolve(listed(project), ["bell<2"], target, session)) == {"bell": "1.0"}
    assert resolve(listed(project), [], target, session) == ()


def test_locked_versions_stay_until_an_upgrade_is_asked_for(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("lamp", "1.0")
    source = listed(project, "lamp")
    old = resolve(source, [], target, session)
    index.wheel("lamp", "1.1")
    index.wheel("rope", "1.0")
    more = listed(project, "lamp", "rope")
    fresh = replace(session, environ={**session.environ, "UV_NO_CACHE": "1"})
    assert versions(resolve(more, [], target, fresh, preferences=old)) == {"lamp": "1.0", "rope": "1.0"}
    assert versions(resolve(more, [], target, fresh)) == {"lamp": "1.1", "rope": "1.0"}
    assert versions(resolve(listed(project, "lamp>1"), [], target, fresh, preferences=old)) == {"lamp": "1.1"}


def test_hashes_in_the_requirements_choose_the_wheel(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("chart", tag="cp311-cp311-manylinux_2_28_x86_64")
    plain = index.wheel("chart")
    source = written(project, f"chart==1.0 \\\n    --hash=sha256:{sha256_of(plain)}")
    (wheel,) = resolve(source, [], target, session)
    assert wheel.file == plain.name
    with pytest.raises(LockError, match="one of the hashes"):
        resolve(written(project, f"chart==1.0 --hash=sha256:{'0' * 64}"), [], target, session)


def test_wheels_named_by_path_are_locked(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    (project / "dist").mkdir()
    wheel = make_wheel(project / "dist", "own", "3.0", requires=["dep"])
    index.wheel("dep")
    for line in (f"./dist/{wheel.name}", f"own @ file://{wheel}"):
        wheels = resolve(written(project, line), [], target, session)
        assert versions(wheels) == {"dep": "1.0", "own": "3.0"}
        assert {each.sha256 for each in wheels} >= {sha256_of(wheel)}


def test_a_wheel_named_by_path_must_fit(session: Session, target: Target, project: Path) -> None:
    wheel = make_wheel(project, "own", tag="cp39-cp39-win_amd64")
    with pytest.raises(LockError):
        resolve(written(project, f"./{wheel.name}"), [], target, session)


@pytest.mark.parametrize("where", ["environment", "option", "pip"])
def test_a_folder_of_wheels_needs_no_index(
    session: Session, target: Target, project: Path, tmp_path: Path, where: str
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    make_wheel(shelf, "own")
    environ = dict(session.environ) | {"PIP_NO_INDEX": "1"}
    del environ["UV_DEFAULT_INDEX"]
    lines = ["own"]
    if where == "environment":
        environ["UV_FIND_LINKS"] = str(shelf)
    elif where == "pip":
        environ["PIP_FIND_LINKS"] = f"{shelf} {project}"
    else:
        lines = [f"--find-links {shelf}", "own"]
    assert versions(resolve(written(project, *lines), [], target, replace(session, environ=environ)))


# Failures


def failure(source: RequirementsSource, target: Target, session: Session) -> LockError:
    with pytest.raises(LockError) as caught:
        resolve(source, [], target, session)
    assert caught.value.hint
    return caught.value


def test_a_package_without_wheels_is_named_with_the_remedy_and_never_built(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.sdist("oldlib")
    index.wheel("app", requires=["oldlib"])
    for source in (listed(project, "oldlib"), listed(project, "app"), listed(project, "oldlib==1.0")):
        error = failure(source, target, session)
        assert error.message.startswith("oldlib:")
        assert "wheel" in (error.hint or "")
        assert "this was run" not in error.message


def test_a_package_with_wheels_for_other_platforms_only_is_named(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("winlib", tag="cp311-cp311-win_amd64")
    assert failure(listed(project, "winlib"), target, session).message.startswith("winlib:")


def test_a_conflict_is_explained(index: PackageIndex, session: Session, target: Target, project: Path) -> None:
    index.wheel("app", requires=["dep>=2"])
    index.wheel("dep", "1.0")
    index.wheel("dep", "2.0")
    message = failure(listed(project, "app", "dep<2"), target, session).message
    assert "app" in message and "dep>=2" in message and "dep<2" in message


def test_an_unknown_package_is_named(index: PackageIndex, session: Session, target: Target, project: Path) -> None:
    error = failure(listed(project, "nowhere"), target, session)
    assert error.message.startswith("nowhere is on no index")


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--editable=./lib",
        "lib @ git+https://example.org/lib.git",
        "git+ssh://git@example.org/lib.git",
        "./lib",
        "/srv/lib",
        "lib.tar.gz",
        "lib @ https://user:secret@example.org/lib-1.0.tar.gz",
    ],
)
def test_what_would_have_to_be_built_is_refused_before_anything_runs(
    index: PackageIndex, session: Session, target: Target, project: Path, line: str
) -> None:
    error = failure(written(project, "# first", line), target, session)
    assert "requirements.txt:2" in error.message
    assert "secret" not in error.message
    assert index.requests == []


def test_sources_of_uv_that_would_have_to_be_built_are_refused(
    session: Session, target: Target, project: Path
) -> None:
    path = project / "pyproject.toml"
    path.write_text(
        '[project]\nname = "app"\nversion = "1"\ndependencies = ["My_Lib"]\n'
        '[tool.uv.sources]\nmy-lib = { git = "https://example.org/lib" }\n'
    )
    error = failure(RequirementsSource("pyproject", path), target, session)
    assert "my-lib" in error.message


def test_an_index_that_cannot_be_reached_is_a_network_error(session: Session, target: Target, project: Path) -> None:
    environ = {**session.environ, "UV_DEFAULT_INDEX": "http://user:secret@127.0.0.1:1/simple"}
    with pytest.raises(NetworkError) as caught:
        resolve(listed(project, "own"), [], target, replace(session, environ=environ))
    assert "secret" not in caught.value.message


def test_offline_without_a_cache_says_so(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    with pytest.raises(NetworkError) as caught:
        resolve(listed(project, "own"), [], target, replace(session, offline=True))
    assert "offline" in (caught.value.hint or "")
    assert index.requests == []


def test_a_login_that_is_missing_is_a_network_error(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("own")
    index.login = ("ship", "secret")
    with pytest.raises(NetworkError, match="credentials"):
        resolve(listed(project, "own"), [], target, session)


def test_the_digest_of_the_inputs_knows_what_matters(project: Path, target: Target) -> None:
    (project / "more.txt").write_text("c==1\n")
    first = requirements_input(written(project, "a==1", "-r more.txt"), [], target)
    assert requirements_input(written(project, "# why", "a==1  # here", "", "-r more.txt\r"), [], target) == first
    assert requirements_input(written(project, "a==1", "-r more.txt"), [], replace(target, python="3.11.9")) == first
    assert requirements_input(written(project, "a==2", "-r more.txt"), [], target) != first
    assert requirements_input(written(project, "a==1", "-r more.txt"), ["b"], target) != first
    assert requirements_input(written(project, "a==1", "-r more.txt"), [], replace(target, python="3.13")) != first
    assert requirements_input(written(project, "a==1", "-c more.txt"), [], target) != first
    (project / "more.txt").write_text("c==2\n")
    assert requirements_input(written(project, "a==1", "-r more.txt"), [], target) != first


@pytest.mark.network
def test_the_users_own_index_works(target: Target, project: Path, tmp_path: Path) -> None:
    session = Session(Cache(tmp_path / "cache"), environ=dict(os.environ))
    wheels = resolve(written(project, "joblib==1.5.2"), [], target, session)
    assert versions(wheels) == {"joblib": "1.5.2"}
    assert set(fetch_wheels(wheels, session, target)) == {wheel.sha256 for wheel in wheels}
