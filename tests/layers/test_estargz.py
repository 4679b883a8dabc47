"""eStargz layers: the plain layer with a table of contents, every entry of which is true."""

from __future__ import annotations

import gzip
import io
import json
import platform
import random
import sys
import tarfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from estargz_reader import Estargz, one_member, read_estargz, sha256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wheel_factory import make_wheel, source_of

from lightship.cache import Cache
from lightship.errors import IntegrityError
from lightship.layers import Compression, Layer, TarWriter, materialise, plain_tar, prioritised, recipe_key
from lightship.layers.environment import Environment
from lightship.layers.estargz import CHUNK_SIZE, TOC_DIGEST, UNCOMPRESSED_SIZE
from lightship.layers.wheels import WheelsRecipe
from lightship.oci.image import Image, Settings

ENVIRONMENT = Environment(f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}", platform.python_version())
OWN = [".no.prefetch.landmark", "stargz.index.json"]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@dataclass
class Entries:
    """A recipe of every kind of entry."""

    large: bytes = b""
    kind: str = "app"
    title: str = "a test"

    @property
    def key(self) -> str:
        return recipe_key("test-estargz", 1, sha256(self.large))

    def write(self, tar: TarWriter) -> None:
        tar.directory("app", uid=7, gid=8)
        tar.content("app/a", b"first", mode=0o755, uid=1, gid=2)
        tar.hardlink("app/b", "app/a")
        tar.content("app/empty", b"")
        tar.content("app/large", self.large)
        tar.symlink("app/link", "../lib/x.so")
        tar.content("lib/x.so", bytes(513))
        tar.content("lib/" + "ä" * 150, b"a long name")


def noise(size: int) -> bytes:
    """Bytes that compress to a little less than their size."""
    return bytes(random.Random(7).choices(b"abcdefghijklmnopqrstuvwxyz", k=size))


def wheel(folder: Path) -> Path:
    files = {"demo/__init__.py": b"x = 1\n", "demo/a.bin": noise(5 << 20), "demo/b.bin": noise(900), "demo/e": b""}
    return make_wheel(folder, files=files)


def layer_of(path: Path, cache: Cache, compression: Compression = Compression.ESTARGZ) -> Layer:
    return materialise(WheelsRecipe((source_of(path),), ENVIRONMENT, "safe", None), cache, compression)


def blob_of(layer: Layer, cache: Cache) -> bytes:
    return cache.blob_path(layer.digest).read_bytes()


def read(layer: Layer, cache: Cache) -> Estargz:
    return read_estargz(blob_of(layer, cache))


def tar_entries(layer: Layer, cache: Cache) -> list[tuple[object, ...]]:
    with plain_tar(layer, cache) as pieces, tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        return [
            (
                each.name,
                each.type,
                each.mode,
                each.uid,
                each.gid,
                each.mtime,
                each.linkname,
                tar.extractfile(each).read() if each.isreg() else b"",  # type: ignore[union-attr]
            )
            for each in tar.getmembers()
        ]


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 9_000_000])
def test_every_content_is_found_by_the_table(cache: Cache, size: int) -> None:
    layer = materialise(Entries(noise(size)), cache, Compression.ESTARGZ)
    found = read(layer, cache)
    assert found.files["app/large"] == noise(size)
    assert found.files[".no.prefetch.landmark"] == b"\x0f"
    chunks = [entry for entry in found.entries if entry["name"] == "app/large"]
    assert len(chunks) == max(1, -(-size // CHUNK_SIZE))


def test_the_entries_are_those_of_the_plain_layer_and_its_own(cache: Cache) -> None:
    recipe = Entries(noise(100_000))
    plain, lazy = (materialise(recipe, cache, each) for each in (Compression.NONE, Compression.ESTARGZ))
    entries = tar_entries(lazy, cache)
    assert entries[:-2] == tar_entries(plain, cache)
    assert [entry[0] for entry in entries[-2:]] == OWN


def test_the_layer_says_what_the_table_hashes_to(cache: Cache) -> None:
    layer = materialise(Entries(), cache, Compression.ESTARGZ)
    unpacked = gzip.decompress(blob_of(layer, cache))
    annotations = dict(layer.annotations)
    assert annotations[TOC_DIGEST] == sha256(read(layer, cache).toc)
    assert annotations[UNCOMPRESSED_SIZE] == str(len(unpacked))
    assert (layer.diff_id, layer.unpacked_size) == (sha256(unpacked), len(unpacked))
    assert layer.compression is Compression.ESTARGZ
    assert materialise(Entries(), cache, Compression.ESTARGZ) == replace(layer, from_cache=True)
    (described,) = json.loads(Image((layer,), Settings(("/x",))).manifest)["layers"]
    assert described["annotations"] == annotations
    assert described["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"


def test_a_wheel_s_files_are_in_it_as_the_wheel_has_them(tmp_path: Path, cache: Cache) -> None:
    path = wheel(tmp_path)
    layer = layer_of(path, cache)
    found, blob, content = read(layer, cache), blob_of(layer, cache), path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for name in ("demo/__init__.py", "demo/a.bin", "demo/b.bin"):
            entry = archive.getinfo(name)
            begin = entry.header_offset + 30 + len(entry.filename)
            (described,) = (each for each in found.entries if each["name"].endswith("/" + name))
            _, size = one_member(blob, described["offset"])
            stored = blob[described["offset"] + 10 : described["offset"] + size - 8]
            assert stored == content[begin : begin + entry.compress_size]
            assert "chunkSize" not in described
    assert tar_entries(layer, cache)[:-2] == tar_entries(layer_of(path, cache, Compression.NONE), cache)


def test_the_bytes_do_not_depend_on_the_machine_clock_or_order(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    assert len({layer_of(path, Cache(tmp_path / name)).digest for name in ("one", "two")}) == 1


def test_what_start_up_reads_comes_first_and_the_landmark_behind_it(cache: Cache) -> None:
    layer = materialise(Entries(noise(5 << 20)), cache, Compression.ESTARGZ)
    first = prioritised(layer, ["/app/link", "/no/such/file", "/app/b", "/app/large"], cache)
    found = read(first, cache)
    landmark = found.names().index(".prefetch.landmark")
    # A link brings what it leads to, and stands behind it where it must.
    assert found.names()[: landmark + 1] == [
        "lib/", "lib/x.so", "app/", "app/link", "app/a", "app/b", "app/large", ".prefetch.landmark",
    ]  # fmt: skip
    assert sorted(found.names()[landmark + 1 :]) == ["app/empty", "lib/" + "ä" * 150]
    ours = {entry for entry in tar_entries(layer, cache) if entry[0] not in OWN}
    assert {e for e in tar_entries(first, cache) if e[0] not in (".prefetch.landmark", OWN[1])} == ours
    assert dict(first.annotations)[TOC_DIGEST] == sha256(found.toc)
    assert (first.kind, first.title) == (layer.kind, layer.title)


def test_a_wheel_s_files_move_without_being_compressed_again(tmp_path: Path, cache: Cache) -> None:
    layer = layer_of(wheel(tmp_path), cache)
    names = [name for name in read(layer, cache).names() if name.endswith("b.bin")]
    first = prioritised(layer, names, cache)

    def members(each: Layer) -> dict[str, bytes]:
        blob = blob_of(each, cache)
        offsets = {e["name"]: e["offset"] for e in read(each, cache).entries if "offset" in e}
        return {name: blob[at : at + one_member(blob, at)[1]] for name, at in offsets.items() if name[0] != "."}

    assert members(first) == members(layer)
    assert first.diff_id != layer.diff_id


def test_without_a_file_of_the_list_the_layer_stays_what_it_is(cache: Cache) -> None:
    layer = materialise(Entries(), cache, Compression.ESTARGZ)
    assert prioritised(layer, ["/elsewhere"], cache).digest == layer.digest
    zipped = materialise(Entries(), cache, Compression.GZIP)
    assert prioritised(zipped, ["/app/a"], cache) is zipped


def test_a_priority_is_asked_for_once_or_twice_to_the_same_end(cache: Cache) -> None:
    layer = materialise(Entries(noise(9_000_000)), cache, Compression.ESTARGZ)
    once = prioritised(layer, ["/app/large"], cache)
    assert prioritised(once, ["/app/large"], cache).digest == once.digest
    assert prioritised(layer, ["/app/large"], cache).from_cache


def damaged(layer: Layer, cache: Cache, change: slice, content: bytes) -> Layer:
    blob = bytearray(blob_of(layer, cache))
    blob[change] = content
    return replace(layer, digest=cache.add_blob(bytes(blob)), size=len(blob))


def test_a_damaged_layer_is_not_put_in_another_order(cache: Cache) -> None:
    layer = materialise(Entries(noise(50_000)), cache, Compression.ESTARGZ)
    found = read(layer, cache)
    at = next(entry["offset"] for entry in found.entries if entry["name"] == "app/large")
    for bad, message in (
        (damaged(layer, cache, slice(at + 2000, at + 2004), b"\0\0\0\0"), "app/large"),
        (damaged(layer, cache, slice(-1, None), b""), "no footer"),
        (damaged(layer, cache, slice(-30, -20), b"0000000000"), "where its end says|no footer|table of contents"),
        (
            damaged(layer, cache, slice(found.toc_offset + 20, found.toc_offset + 24), b"\0\0\0\0"),
            "table of contents",
        ),
        (replace(layer, annotations=((TOC_DIGEST, "sha256:" + "0" * 64),)), "than its annotation says"),
        (replace(layer, digest="sha256:" + "0" * 64), "not in the cache any more"),
    ):
        with pytest.raises(IntegrityError, match=message):
            prioritised(bad, ["/app/large"], cache)


def test_a_name_that_json_cannot_hold_is_refused(cache: Cache) -> None:
    @dataclass
    class Latin(Entries):
        def write(self, tar: TarWriter) -> None:
            tar.content("app/caf\udce9", b"x")

    with pytest.raises(IntegrityError, match="is not UTF-8"):
        materialise(Latin(), cache, Compression.ESTARGZ)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.dictionaries(st.text("abcé", min_size=1, max_size=3), st.binary(max_size=2000), max_size=8), st.data())
def test_any_files_in_any_order_are_found(cache: Cache, files: dict[str, bytes], data: st.DataObject) -> None:
    @dataclass
    class Files(Entries):
        def write(self, tar: TarWriter) -> None:
            for name, content in files.items():
                tar.content(f"f/{name}", content)

    layer = materialise(Files(repr(files).encode()), cache, Compression.ESTARGZ)
    first = data.draw(st.lists(st.sampled_from(sorted(files)), unique=True)) if files else []
    for each in (layer, prioritised(layer, [f"f/{name}" for name in first], cache)):
        found = read(each, cache)
        assert {name[2:]: content for name, content in found.files.items() if name[0] == "f"} == files
    assert [name[2:] for name in found.names() if name[:2] == "f/" and name != "f/"][: len(first)] == first
