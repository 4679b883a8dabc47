"""Builds at the levels `used` and `traced`, run for real: what shrinks, what stays equal, and what is refused."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from machine import absent
from pruning_project import copy_project, make_project, set_pruning

from lightship.build import Build, build
from lightship.cache import Cache
from lightship.cli.build import document
from lightship.errors import LockError, ProjectError, VerificationError
from lightship.layers.environment import Environment
from lightship.layers.installed import Installed, installed_distributions
from lightship.layers.rootfs import root_filesystem
from lightship.lock import read_lock
from lightship.project import load_project
from lightship.run.embedded import EmbeddedEngine
from lightship.session import Session
from lightship.supply.inventory import take_inventory
from lightship.verify import prove

pytestmark = pytest.mark.network

ENVIRONMENT = Environment("/usr/bin/python3.11", "3.11.2")
MADE = {"late", "metaonly", "nativedata", "never", "plugged"}


@pytest.fixture
def warm(shared_cache: Path) -> Session:
    """A session with a cache that lasts for the run; containers run in the embedded engine."""
    if why := EmbeddedEngine().why_not():
        absent(f"the embedded engine cannot be used: {why}")
    # Of each test process its own: what another one opens in the same unpacked image counts as opened.
    own = shared_cache / f"pruning-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    return Session(Cache(own), environ=dict(os.environ), jobs=2)


def build_in(folder: Path, session: Session, *, locked: bool = False) -> Build:
    return build(load_project(folder), session, locked=locked)


def installed(built: Build, session: Session) -> dict[str, Installed]:
    root = root_filesystem(built.image.images[0].layers, session.cache)
    return {each.name: each for each in installed_distributions(root, ENVIRONMENT)}


def answer(built: Build, session: Session, folder: Path) -> object:
    proof = prove(built.image.images[0], EmbeddedEngine(), session, golden=folder / "golden.json")
    proof.container.stop()
    return proof.answer


def test_used_leaves_out_what_is_never_imported_and_keeps_read_metadata(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "safe")
    whole = build_in(folder, warm)
    expected = answer(whole, warm, folder)
    assert installed(whole, warm).keys() >= MADE

    set_pruning(folder, "used")
    pruned = build_in(folder, warm)
    found = installed(pruned, warm)
    assert found.keys() & MADE == MADE - {"never"}
    assert all(path.startswith("metaonly-1.0.dist-info/") for path in found["metaonly"].files)
    assert found["nativedata"].files.keys() >= {"nativedata/blob.bin", "nativedata/filling.txt"}
    assert "late/rare.py" in found["late"].files
    assert pruned.image.images[0].unpacked_size < whole.image.images[0].unpacked_size - 300_000
    assert answer(pruned, warm, folder) == expected


def test_traced_leaves_out_what_is_never_opened_by_anybody(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "traced")
    built = build_in(folder, warm)
    found = installed(built, warm)

    def code(name: str) -> set[str]:
        return {path for path in found[name].files if ".dist-info/" not in path}

    assert "never" not in found
    assert code("late") == {"late/__init__.py", "late/words.txt", "late/LICENSE"}
    assert code("nativedata") == {"nativedata/blob.bin"}
    assert code("plugged") == {"plugged.py"}
    assert "late-1.0.dist-info/METADATA" in found["late"].files
    assert answer(built, warm, folder) == json.loads((folder / "golden.json").read_text())["response"]


@pytest.mark.parametrize("level", ["safe", "used", "traced"])
def test_every_level_reports_what_it_left_out(tmp_path: Path, warm: Session, level: str) -> None:
    built = build_in(make_project(tmp_path / "project", level), warm)
    removed = {each.name: each for each in built.parts[0].removed}
    assert removed["late"].rules["tests"] == (1, len(b"assert False\n"))
    assert ("never" in removed and removed["never"].whole) == (level != "safe")
    assert ("never opened" in removed["late"].rules) == (level == "traced")
    if level == "traced":
        assert removed["late"].rules["never opened"][0] == 2
        assert removed["nativedata"].rules == {"never opened": (1, 200_000)}
    shown = {each["name"]: each for each in document(built)["removed"]}
    assert shown["late"]["rules"]["tests"] == {"files": 1, "bytes": 13}
    assert ("never" in shown) == (level != "safe")
    sizes = [each.size for each in built.parts[0].removed]
    assert sizes == sorted(sizes, reverse=True)


def test_a_committed_lock_gives_the_same_digest_elsewhere_without_observing(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "traced")
    first = build_in(folder, warm)
    lock = (folder / "lightship.lock").read_bytes()
    assert "observe" in dict(first.phases.items())

    elsewhere = copy_project(folder, tmp_path / "elsewhere")
    cold = replace(warm, cache=Cache(tmp_path / "cold"))
    second = build_in(elsewhere, cold, locked=True)
    assert second.image.digest == first.image.digest
    assert "observe" not in dict(second.phases.items())
    assert (elsewhere / "lightship.lock").read_bytes() == lock
    assert second.parts[0].removed == first.parts[0].removed
    # Nobody fetches what nobody installs.
    [never] = [wheel for wheel in read_lock(folder / "lightship.lock").wheels if wheel.name == "never"]  # type: ignore[union-attr]
    assert not cold.cache.has_blob(f"sha256:{never.sha256}")

    again = build_in(elsewhere, cold, locked=True)
    assert again.image.digest == first.image.digest
    assert not {"observe", "verify"} & dict(again.phases.items()).keys()


def test_a_change_of_the_project_is_observed_anew_and_refused_when_locked(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "traced")
    before = build_in(folder, warm)
    golden = json.loads((folder / "golden.json").read_text())
    golden["request"], golden["response"]["word"] = "rare", "rare"
    (folder / "golden.json").write_text(json.dumps(golden))
    with pytest.raises(LockError, match="does without"):
        build_in(folder, warm, locked=True)
    after = build_in(folder, warm)
    assert "late/rare.py" not in installed(before, warm)["late"].files
    assert "late/rare.py" in installed(after, warm)["late"].files
    assert "late/words.txt" not in installed(after, warm)["late"].files
    assert any("observed anew" in change for change in after.lock_changes)


def test_a_missed_file_is_refused_by_its_name_with_the_way_to_keep_it(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "traced")
    build_in(folder, warm)
    lock = folder / "lightship.lock"
    text, replaced = re.subn(r'\n *"late/words\.txt",', "", lock.read_text())
    assert replaced == 1
    lock.write_text(text)
    with pytest.raises(VerificationError, match=r"missed:\n  late/words\.txt of late") as refused:
        build_in(folder, warm)
    assert refused.value.hint == 'Keep it: [image] keep = ["late/words.txt"]'
    set_pruning(folder, "traced", ("late/words.txt",))
    assert "late/words.txt" in installed(build_in(folder, warm), warm)["late"].files


def test_a_missed_file_is_named_even_where_the_server_says_nothing(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "traced")
    build_in(folder, warm)
    lock = folder / "lightship.lock"
    text, replaced = re.subn(r'\n *"nativedata/blob\.bin",', "", lock.read_text())
    assert replaced == 1
    lock.write_text(text)
    with pytest.raises(VerificationError, match=r"missed:\n  nativedata/blob\.bin of nativedata"):
        build_in(folder, warm)


def test_a_distribution_that_was_dropped_by_mistake_is_named(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "used")
    build_in(folder, warm)
    lock = folder / "lightship.lock"
    lock.write_text(lock.read_text().replace("[pruned.dropped]\n", "[pruned.dropped]\nlate = 1\n"))
    with pytest.raises(VerificationError, match=r"late/__init__\.py of late") as refused:
        build_in(folder, warm)
    assert refused.value.hint == 'Keep it: [image] keep = ["late"]'


def test_a_file_that_is_only_looked_for_refuses_the_build_and_can_be_kept(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "traced", fragile=True)
    with pytest.raises(VerificationError, match=r"fragile/other\.txt of fragile"):
        build_in(folder, warm)
    lock = read_lock(folder / "lightship.lock")
    assert lock is not None
    assert lock.pruned is None  # nothing that was not proven is written down
    set_pruning(folder, "traced", ("fragile/mark*",))
    built = build_in(folder, warm)
    assert {"fragile/marker", "fragile/__init__.py"} <= installed(built, warm)["fragile"].files.keys()
    assert "fragile/other.txt" not in installed(built, warm)["fragile"].files


def test_what_the_user_keeps_is_kept_whole_tests_included(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "traced")
    set_pruning(folder, "traced", ("never", "late/tests/*"))
    found = installed(build_in(folder, warm), warm)
    assert "never/filling.txt" in found["never"].files
    assert "late/tests/test_late.py" in found["late"].files
    assert "late/filling.txt" not in found["late"].files


def test_a_distribution_to_keep_that_is_not_there_is_an_error(tmp_path: Path, warm: Session) -> None:
    folder = make_project(tmp_path / "project", "safe")
    set_pruning(folder, "safe", ("nevr",))
    with pytest.raises(ProjectError, match="'nevr'"):
        build_in(folder, warm)


@pytest.mark.parametrize("level", ["used", "traced"])
def test_without_a_golden_request_the_error_says_how_to_write_one(
    tmp_path: Path, session: Session, level: str
) -> None:
    folder = make_project(tmp_path / "project", level)
    (folder / "golden.json").unlink()
    with pytest.raises(ProjectError, match="golden request") as refused:
        build(load_project(folder), session)
    assert refused.value.hint is not None
    assert "golden.json" in refused.value.hint


def test_the_bill_of_materials_lists_what_is_in_the_image_only(tmp_path: Path, warm: Session) -> None:
    built = build_in(make_project(tmp_path / "project", "used"), warm)
    [materials] = built.materials
    listed = {wheel.name for wheel in materials.lock.wheels}
    assert listed & MADE == MADE - {"never"}
    assert {component.name for component in take_inventory(materials, warm).components} & MADE == MADE - {"never"}
