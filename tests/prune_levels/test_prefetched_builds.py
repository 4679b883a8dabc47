"""eStargz images whose layers have first what their start reads: observed once, written down, the same elsewhere."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from estargz_reader import read_estargz
from machine import absent
from pruning_project import copy_project, make_project

from lightship.build import Build, build
from lightship.cache import Cache
from lightship.lock import read_lock
from lightship.prefetching import paths_of
from lightship.project import load_project
from lightship.run.embedded import EmbeddedEngine
from lightship.session import Session
from lightship.verify import prove

pytestmark = pytest.mark.network
LANDMARK = ".prefetch.landmark"


@pytest.fixture
def warm(shared_cache: Path) -> Session:
    if why := EmbeddedEngine().why_not():
        absent(f"the embedded engine cannot be used: {why}")
    own = shared_cache / f"prefetching-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    return Session(Cache(own), environ=dict(os.environ), jobs=2)


def project(folder: Path) -> Path:
    made = make_project(folder, "safe")
    with (made / "lightship.toml").open("a") as file:
        file.write('compression = "estargz"\n')
    return made


def built(folder: Path, session: Session, *, locked: bool = False) -> Build:
    return build(load_project(folder), session, locked=locked)


def prefetched(each: Build, session: Session) -> tuple[set[str], set[str]]:
    """The files before a landmark, and those behind one, of all layers."""
    before: set[str] = set()
    behind: set[str] = set()
    for layer in each.image.images[0].layers:
        blob = session.cache.blob_path(layer.digest).read_bytes()
        names = read_estargz(blob).names()
        cut = names.index(LANDMARK) if LANDMARK in names else 0
        before.update(name for name in names[:cut] if not name.endswith("/"))
        behind.update(names[cut:])
    return before, behind


def test_what_start_up_reads_stands_first(tmp_path: Path, warm: Session) -> None:
    folder = project(tmp_path / "project")
    first = built(folder, warm)
    lock = read_lock(folder / "lightship.lock")
    assert lock is not None and lock.prefetched is not None
    before, behind = prefetched(first, warm)
    packages = "opt/lightship/lib/python3.11/site-packages"
    assert {f"{packages}/late/words.txt", f"{packages}/nativedata/blob.bin"} <= before
    assert {f"{packages}/late/filling.txt", f"{packages}/never/filling.txt"} <= behind
    assert any("libc.so" in name for name in before) and "app/serve.py" in before
    assert {name for name in before if name.endswith(".py") and packages not in name} <= set(
        paths_of(lock.prefetched.files)
    )
    # The image works as it did.
    proof = prove(first.image.images[0], EmbeddedEngine(), warm, golden=folder / "golden.json")
    proof.container.stop()


def test_another_machine_makes_the_same_image_from_the_lock(tmp_path: Path, warm: Session) -> None:
    folder = project(tmp_path / "project")
    first = built(folder, warm)
    lock = (folder / "lightship.lock").read_bytes()
    elsewhere = copy_project(folder, tmp_path / "elsewhere")
    cold = replace(warm, cache=Cache(tmp_path / "cold"))
    second = built(elsewhere, cold, locked=True)
    assert second.image.digest == first.image.digest
    assert "observe" not in dict(second.phases.items())
    assert (elsewhere / "lightship.lock").read_bytes() == lock
    # Code changes every minute: nothing is observed for it.
    with (folder / "serve.py").open("a") as file:
        file.write("\n# changed\n")
    third = built(folder, warm)
    assert third.image.digest != first.image.digest
    assert "observe" not in dict(third.phases.items())


def test_without_a_golden_request_nothing_is_observed(tmp_path: Path, warm: Session) -> None:
    folder = project(tmp_path / "project")
    (folder / "golden.json").unlink()
    image = built(folder, warm)
    assert prefetched(image, warm)[0] == set()
    lock = read_lock(folder / "lightship.lock")
    assert lock is not None and lock.prefetched is None
