"""What stays of which distribution, by what was opened; and which missing files a server's last words name."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from wheel_factory import make_wheel, source_of

from lightship.errors import IntegrityError, ProjectError
from lightship.layers import Compression, materialise
from lightship.layers.environment import Environment
from lightship.layers.installed import Installed, installed_distributions
from lightship.layers.installed import source_of as source_of_bytecode
from lightship.layers.prune import always_kept
from lightship.layers.removed import remember_removed, removed_from
from lightship.layers.wheels import WheelsRecipe
from lightship.lock import Inputs, Lock, LockedWheel, Pruned, Target, read_lock, write_lock
from lightship.selection import left_out_by, named_in, select, what_to_install
from lightship.session import Session

ENVIRONMENT = Environment("/usr/bin/python3.11", "3.11.2")
SITE = "opt/lightship/lib/python3.11/site-packages"


def distribution(name: str, *files: str) -> Installed:
    sizes = dict.fromkeys((*files, f"{name}-1.dist-info/METADATA"), 100)
    return Installed(name, f"{name}-1.dist-info", sizes)


TWO = (distribution("one", "one/__init__.py", "one/data.bin"), distribution("two", "two.py", "../../../bin/two"))


@pytest.mark.parametrize(
    ("opened", "used", "traced"),
    [
        ({"one/data.bin", "two.py"}, {}, {"one": ("one/data.bin",), "two": ("two.py",)}),
        ({"one/__init__.py"}, {}, {"one": ("one/__init__.py",)}),
        ({"one/__init__.py", "two-1.dist-info/METADATA"}, {"two": ()}, {"one": ("one/__init__.py",), "two": ()}),
        ({"one/data.bin", "../../../bin/two"}, {}, {"one": ("one/data.bin",), "two": ("../../../bin/two",)}),
    ],
)
def test_files_and_distributions_stay_by_what_was_opened(
    opened: set[str], used: dict[str, tuple[str, ...]], traced: dict[str, tuple[str, ...]]
) -> None:
    two_dropped = not any("two" in path for path in opened)
    for level, kept in (("used", used), ("traced", traced)):
        pruned = select(level, "i", TWO, frozenset(opened), ())  # type: ignore[arg-type]
        assert pruned.kept == kept
        assert pruned.dropped == ({"two": 300} if two_dropped else {})


def test_of_an_imported_module_the_bytecode_is_named_and_of_one_that_was_read_its_source() -> None:
    opened = frozenset({"one/__pycache__/__init__.cpython-311.pyc", "two.py"})
    pruned = select("traced", "i", TWO, opened, ())
    assert pruned.kept == {"one": ("one/__pycache__/__init__.cpython-311.pyc",), "two": ("two.py",)}
    assert "one/__init__.py" not in left_out_by(TWO, pruned)
    assert select("used", "i", TWO, opened, ()).dropped == {}


def test_the_user_keeps_distributions_by_name_and_files_by_pattern() -> None:
    assert select("used", "i", TWO, frozenset(), ("One", "two*")) == Pruned("used", "i", {}, {})
    assert select("traced", "i", TWO, frozenset(), ("one/*",)).kept == {"one": ("one/__init__.py", "one/data.bin")}


def test_bytecode_stands_for_its_source() -> None:
    for path, recorded in (
        (f"{SITE}/a/__pycache__/b.cpython-311.pyc", "a/b.py"),
        (f"{SITE}/__pycache__/b.cpython-311.opt-1.pyc", "b.py"),
        (f"{SITE}/a/b.cpython-311-x86_64-linux-gnu.so", "a/b.cpython-311-x86_64-linux-gnu.so"),
        (f"{SITE}/a/legacy.pyc", "a/legacy.pyc"),
        ("opt/lightship/bin/tool", "../../../bin/tool"),
    ):
        assert source_of_bytecode(ENVIRONMENT.recorded(path)) == recorded


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ModuleNotFoundError: No module named 'pkg.sub.late'", ["pkg/sub/late.py"]),
        ("ImportError: cannot import name 'late' from 'pkg.sub' (/x.py)", ["pkg/sub/late.py"]),
        ("ModuleNotFoundError: No module named 'pkg.sub'", ["pkg/sub/__init__.py"]),
        ("ModuleNotFoundError: No module named 'pkg.fast'", ["pkg/fast.cpython-311-x86_64-linux-gnu.so"]),
        (f"No such file or directory: '/{SITE}/pkg/words.txt'", ["pkg/words.txt"]),
        ("libthing-1a2b.so.5: cannot open shared object file", ["pkg.libs/libthing-1a2b.so.5"]),
        ("ModuleNotFoundError: No module named 'other'", []),
        ("the answer is 5", []),
    ],
)
def test_last_words_name_files(text: str, named: list[str]) -> None:
    files = (
        "pkg/sub/late.py",
        "pkg/sub/__init__.py",
        "pkg/fast.cpython-311-x86_64-linux-gnu.so",
        "pkg/words.txt",
        "pkg.libs/libthing-1a2b.so.5",
        "pkg/unrelated.py",
    )
    assert named_in(text, dict.fromkeys(files, "pkg")) == named


def test_licences_and_metadata_always_come_along() -> None:
    kept = ("a-1.dist-info/METADATA", "a-1.dist-info/licenses/x", "a/LICENSE", "a/deep/licence.txt", "COPYING.LESSER")
    assert all(map(always_kept, (*kept, "torch/bin/torch_shm_manager")))
    assert not any(map(always_kept, ("a/license.py", "a/_vendor/b-1.dist-info/METADATA", "a/licensed.bin")))


def test_the_key_of_a_layer_changes_with_what_is_left_out(tmp_path: Path) -> None:
    wheel = source_of(make_wheel(tmp_path))
    variants = (
        wheel,
        replace(wheel, only=frozenset()),
        replace(wheel, only=frozenset({"demo/__init__.py"})),
        replace(wheel, keep=("demo/*",)),
    )
    keys = {WheelsRecipe((each,), ENVIRONMENT, "safe", None).key for each in variants}
    assert len(keys) == len(variants)
    # Whatever the order in which files were seen.
    both = [replace(wheel, only=frozenset(order)) for order in (("a", "b"), ("b", "a"))]
    assert len({WheelsRecipe((each,), ENVIRONMENT, "safe", None).key for each in both}) == 1


def test_removals_are_known_without_making_the_layer(tmp_path: Path, session: Session) -> None:
    files = {"demo/__init__.py": b"x", "demo/old.pyc": b"12345", "demo/tests/t.py": b"123", "demo/big.bin": b"1234"}
    path = make_wheel(tmp_path, files=files)
    wheel = replace(source_of(path), only=frozenset({"demo/__init__.py"}))
    assert removed_from(wheel, ENVIRONMENT, "safe", session.cache) is None  # not at hand
    session.cache.add_blob(path.read_bytes())
    removed = removed_from(wheel, ENVIRONMENT, "safe", session.cache)
    assert removed is not None
    assert removed.rules == {"tests": (1, 3), "never opened": (1, 4)}
    assert (removed.files, removed.size) == (2, 7)
    session.cache.blob_path(f"sha256:{wheel.sha256}").unlink()
    assert removed_from(wheel, ENVIRONMENT, "safe", session.cache) == removed  # remembered


def test_making_the_layer_writes_down_what_it_leaves_out(tmp_path: Path, session: Session) -> None:
    wheel = source_of(make_wheel(tmp_path, files={"demo/__init__.py": b"x", "demo/tests/t.py": b"123"}))
    tell = partial(remember_removed, ENVIRONMENT, "safe", session.cache)
    materialise(WheelsRecipe((wheel,), ENVIRONMENT, "safe", None, tell=tell), session.cache, Compression.NONE)
    removed = removed_from(wheel, ENVIRONMENT, "safe", session.cache)  # though the wheel is not in the cache
    assert removed is not None
    assert removed.rules == {"tests": (1, 3)}


def lock_of(*names: str, pruned: Pruned | None = None) -> Lock:
    wheels = tuple(LockedWheel(name, "1", f"{name}-1-py3-none-any.whl", 1, "0" * 64) for name in names)
    return Lock(Target("3.11"), Inputs("r", "b"), wheels=wheels, pruned=pruned)


def test_what_to_install_follows_the_record() -> None:
    lock = lock_of("one", "two", "three", "four")
    pruned = Pruned("traced", "i", {"two": 5}, {"three": ("three.py",)})
    found = {wheel.name: (only, keep) for wheel, only, keep in what_to_install(lock.wheels, pruned, ("four", "x/*"))}
    assert found == {"one": (None, ("x/*",)), "three": (frozenset({"three.py"}), ("x/*",)), "four": (None, ("*",))}
    assert [wheel.name for wheel, _, _ in what_to_install(lock.wheels, None, ())] == ["one", "two", "three", "four"]
    with pytest.raises(ProjectError, match="'five'"):
        list(what_to_install(lock.wheels, None, ("five",)))


def test_the_record_survives_the_lock_file(tmp_path: Path) -> None:
    pruned = Pruned("traced", "sha256:1", {"two": 5, "b": 1}, {"one": ('a "b"/ü.py', "a.py"), "c": ()})
    write_lock(tmp_path / "lightship.lock", lock_of("one", "two", pruned=pruned))
    first = (tmp_path / "lightship.lock").read_bytes()
    found = read_lock(tmp_path / "lightship.lock")
    assert found is not None
    assert found.pruned is not None
    assert (found.pruned.dropped, set(found.pruned.kept["one"])) == (pruned.dropped, set(pruned.kept["one"]))
    assert not write_lock(tmp_path / "lightship.lock", found)
    assert (tmp_path / "lightship.lock").read_bytes() == first


@pytest.mark.parametrize("row", ["a.py,sha256=x\n", "a.py,,many\n", "\xff"])
def test_a_record_that_is_none_is_refused(tmp_path: Path, row: str) -> None:
    info = tmp_path / SITE / "demo-1.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_bytes(row.encode("latin-1"))
    with pytest.raises(IntegrityError, match="RECORD"):
        installed_distributions(tmp_path, ENVIRONMENT)


def test_no_link_of_an_image_leads_out_of_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for info in ("one-1.dist-info", "two-1.dist-info"):
        (outside / info).mkdir(parents=True)
        (outside / info / "RECORD").write_text("secret.py,,1\n")
    linked, site = tmp_path / "linked", tmp_path / "plain" / SITE
    (linked / SITE).parent.mkdir(parents=True)
    (linked / SITE).symlink_to(outside)
    site.mkdir(parents=True)
    (site / "one-1.dist-info").symlink_to(outside / "one-1.dist-info")
    (site / "two-1.dist-info").mkdir()
    (site / "two-1.dist-info" / "RECORD").symlink_to(outside / "two-1.dist-info" / "RECORD")
    assert installed_distributions(linked, ENVIRONMENT) == ()
    assert installed_distributions(tmp_path / "plain", ENVIRONMENT) == ()
