"""The cache: whole or absent, whatever happens; readable errors; pruning."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.cache import Cache, file_digest, remove_tree
from lightship.errors import IntegrityError, StorageError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def everything(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file()]


def test_opening_a_cache_writes_nothing(tmp_path: Path) -> None:
    Cache(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_blob_is_found_by_the_digest_of_its_content(cache: Cache) -> None:
    digest = cache.add_blob(b"hello")
    assert digest == "sha256:" + hashlib.sha256(b"hello").hexdigest()
    assert cache.blob_path(digest).read_bytes() == b"hello"
    assert file_digest(cache.blob_path(digest)) == digest


def test_a_blob_whose_writer_fails_leaves_nothing_behind(cache: Cache) -> None:
    with pytest.raises(RuntimeError), cache.new_blob() as blob:
        blob.write(b"half")
        raise RuntimeError
    assert everything(cache) == []


def test_a_blob_of_the_wrong_size_counts_as_absent(cache: Cache) -> None:
    digest = cache.add_blob(b"hello")
    cache.blob_path(digest).write_bytes(b"")  # what a power failure can leave
    assert not cache.has_blob(digest, 5)


@pytest.mark.parametrize("digest", ["sha256:abc", "sha512:" + "0" * 64, "../../etc/passwd", "sha256:" + "A" * 64])
def test_a_digest_that_is_none_never_becomes_a_path(cache: Cache, digest: str) -> None:
    with pytest.raises(IntegrityError):
        cache.blob_path(digest)


def test_a_record_that_is_damaged_counts_as_absent(cache: Cache) -> None:
    cache.write_record("layers", "key", {"a": 1})
    assert cache.read_record("layers", "key") == {"a": 1}
    (cache.root / "records" / "layers" / "key.json").write_text('{"a": ')
    assert cache.read_record("layers", "key") is None


@given(st.text())
def test_no_record_name_leaves_its_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "names"
    cache = Cache(root / "cache")
    try:
        cache.write_record("kind", name, {})
    except ValueError:
        return
    assert all(path.is_relative_to(cache.root) for path in root.rglob("*.json"))
    assert "/" not in name and name not in {".", ".."}


def test_a_tree_is_made_once_even_by_many_threads(cache: Cache) -> None:
    made: list[Path] = []

    def fill(directory: Path) -> None:
        made.append(directory)
        (directory / "file").write_text("x")

    threads = [threading.Thread(target=cache.make_tree, args=("rootfs", "key", fill)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (cache.tree_path("rootfs", "key") / "file").read_text() == "x"


def test_a_tree_whose_making_fails_leaves_nothing_behind(cache: Cache) -> None:
    def fill(directory: Path) -> None:
        (directory / "file").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.make_tree("rootfs", "key", fill)
    assert not cache.tree_path("rootfs", "key").exists()
    assert not any((cache.root / "tmp").iterdir())


def test_a_tree_with_read_only_folders_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "tree" / "closed").mkdir(parents=True)
    (tmp_path / "tree" / "closed" / "file").touch()
    (tmp_path / "tree" / "closed").chmod(0o500)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_full_disk_is_named_and_leaves_nothing_behind(cache: Cache) -> None:
    with pytest.raises(StorageError, match="disk is full") as caught, cache.new_blob():
        raise OSError(28, os.strerror(28))
    assert "LIGHTSHIP_CACHE" in (caught.value.hint or "")
    assert everything(cache) == []


def test_pruning_takes_the_least_recently_used_first(cache: Cache) -> None:
    old, new = cache.add_blob(b"a" * 1000), cache.add_blob(b"b" * 1000)
    os.utime(cache.blob_path(old), (1, 1))
    assert cache.prune(keep_bytes=1500) == (1, 1000)
    assert not cache.has_blob(old)
    assert cache.has_blob(new)


def test_a_tree_that_is_held_is_not_pruned(cache: Cache) -> None:
    def fill(directory: Path) -> None:
        (directory / "file").write_text("x")

    tree, held = cache.held_tree(lambda: cache.make_tree("rootfs", "key", fill))
    again, held_again = cache.held_tree(lambda: cache.make_tree("rootfs", "key", fill))
    assert tree == again and held and held_again
    assert cache.prune() == (0, 0)
    held.close()
    assert cache.prune() == (0, 0)
    held_again.close()
    assert cache.prune() == (1, 1)
    assert not tree.exists()
    assert not any((cache.root / "tmp").iterdir())


def test_a_tree_that_was_pruned_before_it_was_held_is_made_again(cache: Cache) -> None:
    made: list[Path] = []

    def make() -> Path:
        made.append(cache.make_tree("rootfs", "key", lambda directory: None))
        if len(made) == 1:
            cache.prune()
        return made[-1]

    tree, held = cache.held_tree(make)
    assert tree.is_dir() and held and len(made) == 2
    held.close()


def test_using_a_blob_keeps_it_from_pruning(cache: Cache) -> None:
    digest = cache.add_blob(b"a")
    os.utime(cache.blob_path(digest), (1, 1))
    assert cache.has_blob(digest)
    assert cache.prune(unused_for=3600) == (0, 0)


def test_verifying_finds_what_was_damaged(cache: Cache) -> None:
    good, bad = cache.add_blob(b"good"), cache.add_blob(b"bad")
    cache.blob_path(bad).write_bytes(b"worse")
    read: list[int] = []
    assert cache.damaged_blobs(read.append) == [cache.blob_path(bad)]
    assert sum(read) == len(b"good") + len(b"worse")
    assert cache.has_blob(good)
