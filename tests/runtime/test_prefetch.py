"""A model's bytes are fetched ahead, from local and remote file systems, and whoever forks can wait for the end."""

import os
import threading
from pathlib import Path

import pytest

from lightship_runtime.host.progress import telling
from lightship_runtime.prefetch import AHEAD, CHUNK, Prefetch, is_remote, prefetched


def mounts(path: Path, kind: str, device: int) -> Path:
    table = path / "mountinfo"
    table.write_text(
        "22 1 0:21 / /proc rw,relatime - proc proc rw\n"
        f"36 22 {os.major(device)}:{os.minor(device)} / /models rw shared:1 - {kind} server:/models rw\n"
    )
    return table


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
def test_every_byte_is_asked_for(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(CHUNK + 5))
    (folder / "deep" / "config").write_bytes(bytes(7))
    prefetch = Prefetch(folder, mounts(tmp_path, kind, folder.stat().st_dev))
    prefetch.start()
    prefetch.wait()
    assert prefetch.fetched == prefetch.total == CHUNK + 12
    assert prefetch.share is None  # nothing more will come


def test_a_long_file_is_waited_for_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    with file.open("wb") as opened:
        opened.truncate((2 * AHEAD + 1) * CHUNK + 1)  # a hole: no disk is needed
    prefetch = Prefetch(file)
    prefetch.start()
    prefetch.wait()
    assert prefetch.fetched == prefetch.total == file.stat().st_size


class Coming:
    """Something that is further each time one looks."""

    def __init__(self, *shares: float | None) -> None:
        self._shares = list(shares)

    @property
    def share(self) -> float | None:
        return self._shares.pop(0) if self._shares else None


def test_the_share_is_told_while_it_is_known() -> None:
    told: list[tuple[str, float | None]] = []
    enough = threading.Event()

    def announce(phase: str, done: float | None) -> None:
        told.append((phase, done))
        if len(told) == 3:
            enough.set()

    before = threading.active_count()
    with telling("load", Coming(None, None, 0.25, 0.5, None), announce, 0.001):
        assert enough.wait(60)
    assert told == [("load", 0.25), ("load", 0.5), ("load", None)]
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("kind", "remote"), [("ext4", False), ("overlay", False), ("nfs", True), ("fuse.s3fs", True), ("fuseblk", True)]
)
def test_file_systems_are_told_apart(tmp_path: Path, kind: str, remote: bool) -> None:
    assert is_remote(tmp_path, mounts(tmp_path, kind, tmp_path.stat().st_dev)) is remote


def test_no_thread_is_left_when_the_block_ends(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(3 * CHUNK))
    before = threading.active_count()
    with prefetched(tmp_path / "weights", mounts(tmp_path, "nfs", tmp_path.stat().st_dev)):
        pass
    assert threading.active_count() == before


def test_what_is_missing_is_no_failure(tmp_path: Path) -> None:
    with prefetched(tmp_path / "missing"):
        pass
