"""A changed pin moves what it names and nothing else; whenever that cannot be proven, the resolver is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from package_index import PackageIndex

from lightship.lock import LockedWheel, Target, build_inputs, fetch_wheels, resolve
from lightship.lock.requirements import RequirementsSource
from lightship.session import Session

Change = Callable[..., dict[str, str]]


def written(project: Path, *lines: str) -> RequirementsSource:
    path = project / "requirements.txt"
    path.write_text("\n".join(lines))
    return RequirementsSource("requirements", path)


def versions(wheels: tuple[LockedWheel, ...]) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in wheels}


@pytest.fixture
def fleet(index: PackageIndex) -> PackageIndex:
    """An application that needs a hull and a mast; the mast comes in three versions."""
    index.wheel("app", requires=["hull", "mast>=1", 'winch; extra == "sails"'])
    for version in ("1.0", "1.1"):
        index.wheel("hull", version)
    for version in ("1.0", "2.0"):
        index.wheel("mast", version)
    index.wheel("mast", "3.0", requires=["crows-nest"])
    index.wheel("crows-nest")
    index.wheel("winch")
    return index


@pytest.fixture
def change(fleet: PackageIndex, session: Session, target: Target, project: Path) -> Change:
    """`change(before, after)`: the versions after the requirements changed; the old wheels are here."""

    def run(before: list[str], after: list[str], *, fetched: bool = True) -> dict[str, str]:
        old = resolve(written(project, *before), [], target, session)
        if fetched:
            fetch_wheels(old, session, target, source=written(project, *before), directory=project)
        new = resolve(written(project, *after), [], target, session, preferences=old)
        again = resolve(written(project, *after), [], target, session, preferences=())
        assert versions(new).keys() == versions(again).keys()
        return versions(new)

    return run


@pytest.fixture
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After it is called, whoever asks the resolver again fails."""
    real = build_inputs._compiled

    def start() -> None:
        def refuse(*arguments: Any, **options: Any) -> Any:
            if arguments[-1]:  # preferences: not the comparison, which has none
                raise AssertionError("the resolver was asked")
            return real(*arguments, **options)

        monkeypatch.setattr(build_inputs, "_compiled", refuse)

    return start


def test_what_is_left_out_is_not_looked_for_by_either(
    fleet: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    source = written(project, "app", "hull==1.0")
    without = ("Mast",)
    old = resolve(source, [], target, session, without=without)
    assert versions(old) == {"app": "1.0", "hull": "1.0"}
    fetch_wheels(old, session, target, source=source, directory=project)
    changed = written(project, "app", "hull==1.1")
    new = resolve(changed, [], target, session, preferences=old, without=without)
    assert versions(new) == {"app": "1.0", "hull": "1.1"}
    everything = resolve(changed, [], target, session)
    fetch_wheels(everything, session, target, source=changed, directory=project)
    assert versions(resolve(changed, [], target, session, preferences=everything, without=without)) == versions(new)


def test_a_changed_pin_needs_no_resolver(change: Change, no_resolver: Callable[[], None]) -> None:
    no_resolver()
    assert change(["app", "hull==1.0", "mast==1.0"], ["app", "hull==1.0", "mast==2.0"]) == {
        "app": "1.0",
        "hull": "1.0",
        "mast": "2.0",
    }


def test_what_nobody_needs_any_more_goes(change: Change, no_resolver: Callable[[], None]) -> None:
    no_resolver()
    assert change(["app", "winch", "mast==1.0"], ["app", "mast==2.0"]).keys() == {"app", "hull", "mast"}


def test_a_new_dependency_of_the_new_version_is_found(change: Change) -> None:
    assert "crows-nest" in change(["app", "mast==2.0"], ["app", "mast==3.0"])


def test_an_extra_that_is_asked_for_now_is_found(change: Change) -> None:
    assert "winch" in change(["app", "mast==2.0"], ["app[sails]", "mast==2.0"])


def test_a_constraint_that_the_lock_breaks_is_heard(change: Change, project: Path) -> None:
    (project / "limits.txt").write_text("hull<1.1\n")
    found = change(["app", "mast==1.0"], ["app", "mast==2.0", "-c limits.txt"])
    assert found == {"app": "1.0", "hull": "1.0", "mast": "2.0"}


def test_without_the_wheels_the_resolver_is_asked(change: Change) -> None:
    found = change(["app", "hull==1.0", "mast==1.0"], ["app", "hull==1.0", "mast==2.0"], fetched=False)
    assert found == {"app": "1.0", "hull": "1.0", "mast": "2.0"}


def test_a_pin_that_breaks_another_wheels_requirement_is_refused(
    index: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    from lightship.errors import LockError

    index.wheel("app", requires=["mast<2"])
    index.wheel("mast", "1.0")
    index.wheel("mast", "2.0")
    source = written(project, "app", "mast==1.0")
    old = resolve(source, [], target, session)
    fetch_wheels(old, session, target, source=source, directory=project)
    with pytest.raises(LockError, match="mast"):
        resolve(written(project, "app", "mast==2.0"), [], target, session, preferences=old)


def test_a_hash_that_the_locked_wheel_has_not_sends_to_the_resolver(
    fleet: PackageIndex, session: Session, target: Target, project: Path
) -> None:
    from lightship.errors import LockError

    source = written(project, "winch==1.0")
    old = resolve(source, [], target, session)
    with pytest.raises(LockError):
        resolve(written(project, f"winch==1.0 --hash=sha256:{'0' * 64}"), [], target, session, preferences=old)
