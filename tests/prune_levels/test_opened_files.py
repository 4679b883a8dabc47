"""Which files are opened below a folder, whoever opens them."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from machine import absent

from lightship.errors import EngineError
from lightship.run.opened import OpenedFiles


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for path in ("top.txt", "a/read.txt", "a/b/deep.so", "a/b/looked-at.txt", "a/b/executed", "a/native.bin"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("#!/bin/sh\n" if path.endswith("executed") else "x" * 5000)
    (root / "a/b/executed").chmod(0o755)
    return root


def test_opens_by_python_native_code_and_other_programs_are_seen(tree: Path) -> None:
    (tree / "link").symlink_to("a/read.txt")
    with OpenedFiles(tree) as opened:
        (tree / "link").read_text()
        os.close(ctypes.CDLL(None).open(os.fsencode(tree / "a/native.bin"), os.O_RDONLY))
        with (tree / "a/b/deep.so").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:1] == b"x"
        subprocess.run([str(tree / "a/b/executed")], check=True)
    assert opened.paths == {"a/read.txt", "a/native.bin", "a/b/deep.so", "a/b/executed"}


def test_looking_and_listing_are_no_opening(tree: Path) -> None:
    with OpenedFiles(tree) as opened:
        assert (tree / "a/b/looked-at.txt").stat().st_size == 5000
        assert sorted(os.listdir(tree / "a/b")) == ["deep.so", "executed", "looked-at.txt"]  # noqa: PTH208
    assert opened.paths == frozenset()


def test_what_was_opened_before_or_through_another_tree_does_not_count(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    os.link(tree / "top.txt", other / "top.txt")  # as trees of the cache share their files
    (tree / "a/read.txt").read_text()
    with OpenedFiles(tree) as opened:
        (other / "top.txt").read_text()
    assert opened.paths == frozenset()


def test_thousands_of_files_at_once_are_all_seen_or_it_is_said(tree: Path) -> None:
    many = [tree / f"a/{number}" for number in range(5000)]
    for path in many:
        path.write_bytes(b"")
    try:
        with OpenedFiles(tree) as opened:
            subprocess.run([sys.executable, "-c", READ_ALL, str(tree / "a")], check=True)
    except EngineError as error:
        assert error.hint is not None
        assert "max_queued_events" in error.hint
    else:
        assert {f"a/{number}" for number in range(5000)} <= opened.paths


READ_ALL = (
    "import pathlib, sys; [path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir() if path.is_file()]"
)


def test_a_normal_user_can_watch_as_well(tree: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("everything runs as a normal user already")
    if shutil.which("setpriv") is None:
        absent("the program 'setpriv' is not installed")
    program = (
        "import sys, pathlib\n"
        "from lightship.run.opened import OpenedFiles\n"
        "with OpenedFiles(pathlib.Path(sys.argv[1])) as opened:\n"
        "    pathlib.Path(sys.argv[1], 'a/read.txt').read_text()\n"
        "print(sorted(opened.paths))\n"
    )
    for path in (tree, *tree.parents):
        if path.stat().st_uid == 0 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o111)
        if path.name.startswith("pytest-of-"):
            break
    for path in tree.rglob("*"):
        path.chmod(0o755)
    tree.chmod(0o755)
    command = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", sys.executable, "-c", program]
    done = subprocess.run([*command, str(tree)], capture_output=True, text=True, check=False)
    if "Permission denied" in done.stderr and "python" in done.stderr:
        absent("there is no Python that every user may run")
    assert (done.stdout, done.stderr) == ("['a/read.txt']\n", "")
