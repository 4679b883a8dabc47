"""Of a version that several indexes have, the best wheel for the platform is taken, whichever index has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from package_index import PackageIndex, sha256_of

from lightship.cache import Cache
from lightship.lock import LockedWheel, Target, fetch_wheels, proposed_requirements, resolve
from lightship.lock.index import index_configuration
from lightship.lock.several_indexes import pins, with_wheels
from lightship.session import Session

AMD64, ARM64 = "py3-none-manylinux_2_17_x86_64", "py3-none-manylinux_2_17_aarch64"


@pytest.fixture
def second(tmp_path: Path) -> Iterator[PackageIndex]:
    with PackageIndex(tmp_path / "second") as running:
        yield running


@pytest.fixture
def third(tmp_path: Path) -> Iterator[PackageIndex]:
    with PackageIndex(tmp_path / "third") as running:
        yield running


def by_pip(session: Session, *indexes: PackageIndex) -> Session:
    """The indexes as pip is told of them; the first is the default."""
    environ = {name: value for name, value in session.environ.items() if name != "UV_DEFAULT_INDEX"}
    extra = " ".join(each.simple for each in indexes[1:])
    return replace(session, environ={**environ, "PIP_INDEX_URL": indexes[0].simple, "PIP_EXTRA_INDEX_URL": extra})


def locked(session: Session, target: Target, project: Path, *lines: str) -> dict[str, LockedWheel]:
    wheels = resolve(proposed_requirements(lines, project), [], target, session)
    return {wheel.name: wheel for wheel in wheels}


@pytest.mark.parametrize("platform_first", [True, False])
def test_the_platforms_wheel_wins_wherever_it_is(
    platform_first: bool, index: PackageIndex, second: PackageIndex, session: Session, project: Path
) -> None:
    pure, native = (second, index) if platform_first else (index, second)
    pure.wheel("sound")
    files = {"linux/amd64": native.wheel("sound", tag=AMD64), "linux/arm64": native.wheel("sound", tag=ARM64)}
    index.wheel("left")
    second.wheel("right", requires=["sound"])
    session = by_pip(session, index, second)
    for platform, file in files.items():
        wheels = locked(session, Target("3.11", platform, (2, 36)), project, "left", "right")
        assert wheels.keys() == {"left", "right", "sound"}
        assert wheels["sound"].sha256 == sha256_of(file)


def test_every_index_is_asked(
    index: PackageIndex,
    second: PackageIndex,
    third: PackageIndex,
    session: Session,
    target: Target,
    project: Path,
) -> None:
    for number, place in enumerate((index, second, third)):
        for other, name in enumerate(("one", "two", "three")):
            place.wheel(name, tag=AMD64 if number == other else "py3-none-any")
    wheels = locked(by_pip(session, index, second, third), target, project, "one", "two", "three")
    assert all(wheel.file.endswith(f"{AMD64}.whl") for wheel in wheels.values())
    assert len(wheels) == 3


def test_what_is_locked_is_found_again_without_a_memory(
    index: PackageIndex, second: PackageIndex, session: Session, target: Target, project: Path, tmp_path: Path
) -> None:
    index.wheel("sound")
    second.wheel("sound", tag=AMD64)
    session = by_pip(session, index, second)
    source = proposed_requirements(["sound"], project)
    wheels = resolve(source, [], target, session)
    elsewhere = replace(session, cache=Cache(tmp_path / "another"))
    (path,) = fetch_wheels(wheels, elsewhere, target, source=source).values()
    assert f"sha256:{sha256_of(path)}" == f"sha256:{wheels[0].sha256}"
    assert wheels[0].file.endswith(f"{AMD64}.whl")


def test_a_requirements_file_may_name_the_second_index(
    index: PackageIndex, second: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("sound")
    second.wheel("sound", tag=AMD64)
    session = replace(session, environ={**session.environ, "UV_INDEX_STRATEGY": "unsafe-best-match"})
    wheels = locked(session, target, project, f"--extra-index-url {second.simple}", "sound")
    assert wheels["sound"].file.endswith(f"{AMD64}.whl")


def test_settings_of_uv_may_name_them(
    index: PackageIndex, second: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("sound", tag=AMD64)
    second.wheel("sound")
    (project / "uv.toml").write_text(
        f'index-strategy = "unsafe-best-match"\n[[index]]\nname = "second"\nurl = "{second.simple}"\n'
    )
    assert locked(session, target, project, "sound")["sound"].file.endswith(f"{AMD64}.whl")


def test_uvs_own_rule_holds_where_nobody_asks_for_another(
    index: PackageIndex, second: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    index.wheel("sound", tag=AMD64)
    second.wheel("sound")
    session = replace(session, environ={**session.environ, "UV_INDEX": second.simple})
    assert locked(session, target, project, "sound")["sound"].file.endswith("any.whl")


def test_an_explicit_index_serves_nothing_else(environ: dict[str, str], project: Path) -> None:
    both = environ | {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_DEFAULT_INDEX": "https://a.invalid/simple"}
    table = '[[index]]\nname = "b"\nurl = "https://b.invalid/simple"\n'
    (project / "uv.toml").write_text(table)
    orders = index_configuration(both, None, project).orders
    assert orders == (
        "https://a.invalid/simple b=https://b.invalid/simple",
        "b=https://b.invalid/simple https://a.invalid/simple",
    )
    (project / "uv.toml").write_text(table + "explicit = true\n")
    assert index_configuration(both, None, project).orders == ()


def test_the_same_index_twice_is_one(environ: dict[str, str], project: Path) -> None:
    same = {"PIP_INDEX_URL": "https://a.invalid/simple", "PIP_EXTRA_INDEX_URL": "https://a.invalid/simple/"}
    assert index_configuration(environ | same, None, project).orders == ()


def test_only_the_same_version_counts_and_no_file_counts_twice() -> None:
    def content(version: str, *hashes: str) -> dict[str, object]:
        wheels = [{"path": f"{each}.whl", "hashes": {"sha256": each}} for each in hashes]
        return {"packages": [{"name": "a", "version": version, "wheels": wheels}, {"name": "b", "archive": {}}]}

    first = content("1", "x")
    others = [(content("2", "y"), Path("/two")), (content("1", "x", "z"), Path("/three"))]
    assert pins(first) == ["a==1"]
    (merged, direct) = with_wheels(first, others)["packages"]
    assert [wheel["path"] for wheel in merged["wheels"]] == ["x.whl", "/three/z.whl"]
    assert direct == {"name": "b", "archive": {}}
