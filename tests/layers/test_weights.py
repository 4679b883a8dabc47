"""Layers of weights: what shares one, what is read how often, and what happens when a file changes."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.errors import IntegrityError, ProjectError
from lightship.layers import Compression, plain_tar
from lightship.layers import weights as weights_module
from lightship.layers.weights import MOST_SHARDS, SHARD, Weighed, WeightsFile, shards, weigh, worth_compressing
from lightship.oci.archive import write_archive
from lightship.oci.image import Image, Settings
from lightship.oci.layout import write_layout
from lightship.oci.stored import read_layout
from lightship.session import Session

MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files from 1 MB on are left in place, so that tests write little."""
    monkeypatch.setattr(weights_module, "IN_PLACE", MEGABYTE)


def weights_file(directory: Path, name: str, content: bytes, *, age: float = 60) -> WeightsFile:
    path = directory / name
    path.write_bytes(content)
    then = time.time() - age
    os.utime(path, (then, then))
    return WeightsFile(f"app/{name}", path, len(content))


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def weighed(file: WeightsFile, session: Session) -> Weighed:
    return weigh([file], session.cache, session.progress)


def image_of(*found: Weighed) -> Image:
    return Image(tuple(each.layer for each in found), Settings(entrypoint=("/bin/true",)))


@given(st.lists(st.integers(0, 5 * SHARD), max_size=40))
def test_no_file_is_lost_and_there_are_never_more_layers_than_shares(sizes: list[int]) -> None:
    files = [WeightsFile(f"app/{number:03}", Path("x"), size) for number, size in enumerate(sizes)]
    groups = shards(files)
    assert [file for group in groups for file in group] == files
    assert len(groups) <= MOST_SHARDS


def test_a_gigabyte_of_small_files_is_one_layer_and_large_ones_stand_alone() -> None:
    small = [WeightsFile(f"app/a{number}", Path("x"), SHARD // 20) for number in range(10)]
    large = [WeightsFile(f"app/b{number}", Path("x"), 2 * SHARD) for number in range(4)]
    assert [len(group) for group in shards(small + large)] == [10, 1, 1, 1, 1]


def test_a_large_layer_is_a_tar_of_its_files_that_the_cache_does_not_store(session: Session, tmp_path: Path) -> None:
    files = [weights_file(tmp_path, name, noise(2 * MEGABYTE + 7, seed)) for seed, name in enumerate(["b", "a"])]
    found = weigh(files, session.cache, session.progress)
    layer = found.layer
    assert not session.cache.is_stored(layer.digest)
    assert session.cache.has_blob(layer.digest, layer.size)
    with session.cache.open_blob(layer.digest) as file:
        content = file.read()
    assert "sha256:" + hashlib.sha256(content).hexdigest() == layer.digest == layer.diff_id
    assert len(content) == layer.size == layer.unpacked_size
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames() == ["app", "app/a", "app/b"]
        assert tar.extractfile("app/a").read() == files[1].source.read_bytes()  # type: ignore[union-attr]
    for entry in found.files:
        assert isinstance(entry.content, Path)
        assert entry.digest == "sha256:" + hashlib.sha256(entry.content.read_bytes()).hexdigest()


def test_it_has_the_bytes_of_a_layer_that_is_stored(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights_file(tmp_path, "model.bin", noise(MEGABYTE))
    in_place = weighed(file, session).layer
    monkeypatch.setattr(weights_module, "IN_PLACE", 2 * MEGABYTE)
    other = Session(cache=type(session.cache)(tmp_path / "other"), environ=session.environ)
    stored = weighed(file, other).layer
    assert other.cache.is_stored(stored.digest)
    assert stored.digest == in_place.digest


def test_any_part_of_it_can_be_read(session: Session, tmp_path: Path) -> None:
    layer = weighed(weights_file(tmp_path, "model.bin", noise(2 * MEGABYTE)), session).layer
    with session.cache.open_blob(layer.digest) as file:
        whole = file.read()
        for start in (0, 511, 1024, 1025, MEGABYTE, layer.size - 1, layer.size, layer.size + 5):
            file.seek(start)
            assert file.read(1000) == whole[start : start + 1000]
        assert file.seek(-10, os.SEEK_END) == layer.size - 10


def test_files_are_read_once(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = weights_file(tmp_path, "model.bin", noise(2 * MEGABYTE))
    first = weighed(file, session)
    monkeypatch.setattr(weights_module, "_in_place", None)  # whoever reads again, fails
    monkeypatch.setattr(weights_module, "worth_compressing", None)
    again = weighed(file, session)
    assert again.layer.from_cache
    assert again.layer.digest == first.layer.digest
    assert again.files == first.files


def test_a_file_that_was_written_just_now_is_not_trusted_to_stay(session: Session, tmp_path: Path) -> None:
    file = weights_file(tmp_path, "model.bin", noise(2 * MEGABYTE), age=0)
    weighed(file, session)
    assert not list(session.cache.root.glob("records/file-digests/*"))


def test_a_changed_file_is_another_layer_and_the_old_one_is_gone(session: Session, tmp_path: Path) -> None:
    old = weighed(weights_file(tmp_path, "model.bin", noise(2 * MEGABYTE)), session)
    new = weighed(weights_file(tmp_path, "model.bin", noise(2 * MEGABYTE, seed=1)), session)
    assert new.layer.digest != old.layer.digest
    assert session.cache.has_blob(new.layer.digest)
    assert not session.cache.has_blob(old.layer.digest)
    with (
        pytest.raises(IntegrityError, match=r"model\.bin has changed since"),
        plain_tar(old.layer, session.cache) as tar,
    ):
        list(tar)
    with pytest.raises(IntegrityError, match="not in the cache any more"):
        write_layout(image_of(old), session.cache, tmp_path / "layout", name="x")


def test_a_file_that_shrinks_while_it_is_read_is_noticed(session: Session, tmp_path: Path) -> None:
    file = weights_file(tmp_path, "model.bin", noise(3 * MEGABYTE))
    layer = weighed(file, session).layer
    with session.cache.open_blob(layer.digest) as blob:
        blob.read(MEGABYTE)
        os.truncate(file.source, 2 * MEGABYTE)
        with pytest.raises(FileNotFoundError, match="changed"):
            blob.read()


def test_a_missing_file_is_an_error_for_people(session: Session, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"gone\.bin: No such file"):
        weighed(WeightsFile("app/gone.bin", tmp_path / "gone.bin", 5 * MEGABYTE), session)


def test_what_compresses_well_is_compressed(session: Session, tmp_path: Path) -> None:
    trees = weights_file(tmp_path, "forest.pkl", b"node left right " * 200_000)
    assert worth_compressing([trees])
    layer = weighed(trees, session).layer
    assert layer.compression is Compression.ZSTD
    assert layer.size < trees.size / 10
    assert weighed(trees, session).layer == layer.__class__(**{**vars(layer), "from_cache": True})
    plain = weigh([trees], session.cache, session.progress, Compression.NONE).layer
    assert plain.compression is Compression.NONE


def test_a_sample_tells_even_where_the_beginning_does_not(tmp_path: Path) -> None:
    assert not worth_compressing([weights_file(tmp_path, "w", bytes(2 * MEGABYTE) + noise(20 * MEGABYTE))])


def test_the_caches_own_layout_leaves_it_out_and_other_layouts_hold_it(session: Session, tmp_path: Path) -> None:
    found = weighed(weights_file(tmp_path, "model.bin", noise(2 * MEGABYTE)), session)
    blob = found.layer.digest.removeprefix("sha256:")
    image = image_of(found)
    sparse = write_layout(image, session.cache, tmp_path / "sparse", name="x:1", sparse=True)
    assert not (sparse / "blobs" / "sha256" / blob).exists()
    assert read_layout(sparse, session).digest == image.digest
    whole = write_layout(image, session.cache, tmp_path / "whole", name="x:1")
    content = (whole / "blobs" / "sha256" / blob).read_bytes()
    assert "sha256:" + hashlib.sha256(content).hexdigest() == found.layer.digest
    write_archive(image, session.cache, tmp_path / "image.tar", name="x:1")
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert tar.extractfile(f"blobs/sha256/{blob}").read() == content  # type: ignore[union-attr]
