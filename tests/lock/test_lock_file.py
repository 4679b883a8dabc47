"""lightship.lock: the same text every time, errors that name the key, differences a person can read."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.errors import LockError, StorageError
from lightship.lock import (
    Inputs,
    Lock,
    LockedConversion,
    LockedWeights,
    LockedWheel,
    Target,
    differences,
    read_lock,
    stale_reasons,
    write_lock,
)
from lightship.lock.file import render

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True).filter(lambda name: len(name) < 40)
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}(\+cpu)?", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def wheels(draw: st.DrawFn) -> LockedWheel:
    name, version = draw(NAMES), draw(VERSIONS)
    file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return LockedWheel(name=name, version=version, file=file, size=draw(st.integers(0, 2**40)), sha256=draw(HEX))


SIZES = st.dictionaries(NAMES, st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), max_size=3)
CONVERSIONS = st.builds(
    LockedConversion,
    wheels=st.lists(wheels(), max_size=3, unique_by=lambda wheel: wheel.name).map(
        lambda found: tuple(sorted(found, key=lambda wheel: wheel.name))
    ),
    dropped=SIZES,
    added=SIZES,
)
LOCKS = st.builds(
    Lock,
    target=st.builds(
        Target,
        python=st.sampled_from(["3.11", "3.13.5"]),
        platform=st.sampled_from(["linux/amd64", "linux/arm64"]),
        glibc=st.tuples(st.just(2), st.integers(17, 60)),
    ),
    inputs=st.builds(Inputs, requirements=TEXTS, base=TEXTS),
    base=st.dictionaries(TEXTS, VALUES, max_size=4),
    wheels=st.lists(wheels(), max_size=4, unique_by=lambda wheel: wheel.name).map(
        lambda found: tuple(sorted(found, key=lambda wheel: wheel.name))
    ),
    weights=st.lists(
        st.builds(LockedWeights, path=TEXTS, size=st.integers(0, 2**50), sha256=HEX),
        max_size=3,
        unique_by=lambda file: file.path,
    ).map(lambda found: tuple(sorted(found, key=lambda file: file.path))),
    conversion=st.none() | CONVERSIONS,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lock") / "lightship.lock"


def wheel(name: str, version: str = "1.0", sha256: str = "0" * 64) -> LockedWheel:
    return LockedWheel(name=name, version=version, file=f"{name}-{version}-py3-none-any.whl", size=1, sha256=sha256)


def lock_of(*locked: LockedWheel, base: dict[str, object] | None = None, requirements: str = "r") -> Lock:
    return Lock(
        target=Target("3.11"),
        inputs=Inputs(requirements=requirements, base="b"),
        base=base or {"kind": "debian", "packages": [{"name": "libc6", "version": "2.36-9", "sha256": "1" * 64}]},
        wheels=locked,
    )


@given(lock=LOCKS)
def test_what_is_written_is_what_is_read(place: Path, lock: Lock) -> None:
    write_lock(place, lock)
    assert read_lock(place) == lock


@given(lock=LOCKS, text=st.text(max_size=40), position=st.integers(0, 5000))
def test_a_damaged_file_is_a_clear_error_or_another_lock(place: Path, lock: Lock, text: str, position: int) -> None:
    content = render(lock)
    position %= len(content)
    place.write_text(content[:position] + text + content[position + len(text) :], "utf-8", "surrogatepass")
    try:
        read_lock(place)
    except LockError as error:
        assert str(place) in error.message


def test_the_order_of_the_wheels_does_not_matter() -> None:
    assert render(lock_of(wheel("a"), wheel("b"))) == render(lock_of(wheel("b"), wheel("a")))


def test_the_file_reads_well() -> None:
    text = render(lock_of(wheel("a")))
    assert text.startswith("# What the image is made of")
    assert '[[wheel]]\nname = "a"\nversion = "1.0"\nfile = "a-1.0-py3-none-any.whl"\nsize = 1\n' in text
    assert '[[base.packages]]\nname = "libc6"' in text
    assert "://" not in text


def test_an_equal_lock_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "lightship.lock"
    assert write_lock(path, lock_of(wheel("a")))
    os.utime(path, (1, 1))
    assert not write_lock(path, lock_of(wheel("a")))
    assert path.stat().st_mtime == 1
    assert write_lock(path, lock_of(wheel("a", "2.0")))
    assert [each.name for each in tmp_path.iterdir()] == ["lightship.lock"]


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"lightship\.lock"):
        write_lock(tmp_path / "file" / "lightship.lock", lock_of())


def test_no_file_is_no_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "lightship.lock") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size = 1", 'size = "1"', r"wheel\[0\]\.size: Expected `int`, got `str`"),
        ("size = 1", "size = -1", r"wheel\[0\]\.size"),
        ("size = 1", "size = 1\nurl = 'x'", r"wheel\[0\]: Object contains unknown field `url`"),
        ("0" * 64, "0" * 63, r"wheel\[0\]\.sha256"),
        ('file = "a-1.0', 'file = "../a-1.0', r"wheel\[0\]\.file"),
        ('file = "a-1.0', 'file = "b-1.0', r"wheel\[0\]\.file: .* no wheel of a"),
        ("version = 1\n", "version = 2\n", "has version 2"),
        ("version = 1\n", "", "has version None"),
        ("[inputs]", "[outputs]", "inputs|outputs"),
        ("[[wheel]]", "<<<<<<< ours\n[[wheel]]", "merge conflicts"),
        ("[[wheel]]", "[[wheel", "not valid TOML"),
    ],
)
def test_a_wrong_value_is_named_by_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "lightship.lock"
    text = render(lock_of(wheel("a")))
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LockError, match=message) as caught:
        read_lock(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_package_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lightship.lock"
    path.write_text(render(lock_of(wheel("a"), wheel("a", "2.0"))))
    with pytest.raises(LockError, match="twice"):
        read_lock(path)


def test_requirements_and_base_go_stale_apart() -> None:
    lock = lock_of()
    assert stale_reasons(lock, lock.inputs) == ()
    (reason,) = stale_reasons(lock, Inputs(requirements="other", base="b"))
    assert "requirements" in reason
    (reason,) = stale_reasons(lock, Inputs(requirements="r", base="other"))
    assert "base" in reason
    assert len(stale_reasons(lock, Inputs(requirements="other", base="other"))) == 2


def test_differences_are_told_line_by_line() -> None:
    old = lock_of(wheel("numpy", "2.3.4"), wheel("joblib", "1.5.2"), wheel("same"), wheel("rebuilt"))
    base = {"kind": "debian", "packages": [{"name": "libc6", "version": "2.36-10", "sha256": "2" * 64}]}
    new = lock_of(wheel("numpy", "2.3.5"), wheel("scipy", "1.16.2"), wheel("same"), wheel("rebuilt", sha256="1" * 64))
    new = msgspec.structs.replace(new, base=base, target=Target("3.13"))
    assert differences(old, new) == (
        "target: Python 3.11 on linux/amd64 with glibc 2.36 -> Python 3.13 on linux/amd64 with glibc 2.36",
        "- joblib 1.5.2",
        "numpy 2.3.4 -> 2.3.5",
        "rebuilt 1.0 (another file)",
        "+ scipy 1.16.2",
        "base: libc6 2.36-9 -> 2.36-10",
    )
    assert differences(old, old) == ()
    assert differences(None, lock_of(wheel("a"))) == ("+ a 1.0",)
