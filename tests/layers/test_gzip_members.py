"""Gzip layers of wheels: what the wheel has compressed is kept, and what comes out is the layer, whoever reads it."""

from __future__ import annotations

import gzip
import hashlib
import io
import platform
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import deflate
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wheel_factory import make_wheel, source_of

from lightship.cache import Cache
from lightship.errors import IntegrityError
from lightship.layers import Compression, Layer, materialise, plain_tar
from lightship.layers.environment import Environment
from lightship.layers.gzip_members import GZIP_LEVEL, MEMBER_SIZE, SPLICE_FROM, GzipMembers, gzip_member
from lightship.layers.tar import Deflated
from lightship.layers.wheels import WheelsRecipe

# What libdeflate 1.25 (deflate 0.9.0) writes for `sample(size)`: the first half of the SHA-256, by size and level.
# Found the same on x86-64 and, emulated, on arm64 and on x86-64 without SSE4, AVX and BMI.
KNOWN = [
    (1, GZIP_LEVEL, "ef603fda047973a280cee5c0d7f03d93"),
    (1000, GZIP_LEVEL, "8be3b1f4609590533550a93845032c50"),
    (65_536, GZIP_LEVEL, "7809cbf7931bc2604b1385b75a6741a5"),
    (1 << 20, GZIP_LEVEL, "544d22f7ed428fc469393acd1a667d9e"),
    (3_000_000, GZIP_LEVEL, "d81afe45afe57bbcd8a875d46f4d72f8"),
    (3_000_000, 1, "03004c3a72bb624a23c4c2b7bdbf39a7"),
]
SHORT = "1f8b08000000000000ff4b4ca43d0000647a70af64000000"  # 100 times "a" as a member

ENVIRONMENT = Environment(f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}", platform.python_version())


def noise(size: int) -> bytes:
    """Bytes that compress to a little less than their size."""
    return bytes(random.Random(7).choices(b"abcdefghijklmnopqrstuvwxyz", k=size))


def wheel(folder: Path) -> Path:
    files = {"demo/__init__.py": b"x = 1\n", "demo/a.bin": noise(300_000), "demo/b.bin": noise(90_000), "demo/e": b""}
    return make_wheel(folder, files=files)


def layer_of(path: Path, cache: Cache, compression: Compression = Compression.GZIP) -> Layer:
    recipe = WheelsRecipe((source_of(path),), ENVIRONMENT, "safe", None)
    return materialise(recipe, cache, compression)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_it_is_the_same_layer_as_without_compression(tmp_path: Path, cache: Cache) -> None:
    path = wheel(tmp_path)
    zipped, plain = layer_of(path, cache), layer_of(path, cache, Compression.NONE)
    stored = cache.blob_path(zipped.digest).read_bytes()
    assert (zipped.diff_id, zipped.unpacked_size) == (plain.diff_id, plain.unpacked_size)
    assert zipped.digest == "sha256:" + hashlib.sha256(stored).hexdigest()
    unzipped = gzip.decompress(stored)
    assert "sha256:" + hashlib.sha256(unzipped).hexdigest() == zipped.diff_id
    with tarfile.open(fileobj=io.BytesIO(unzipped)) as tar:
        assert tar.extractfile(f"{ENVIRONMENT.site_packages}/demo/a.bin").read() == noise(300_000)  # type: ignore[union-attr]
    with plain_tar(zipped, cache) as pieces:
        assert b"".join(pieces) == unzipped


def test_large_files_are_in_it_as_the_wheel_has_them(tmp_path: Path, cache: Cache) -> None:
    path = wheel(tmp_path)
    stored = cache.blob_path(layer_of(path, cache).digest).read_bytes()
    with zipfile.ZipFile(path) as archive:
        large = [entry for entry in archive.infolist() if entry.compress_size >= SPLICE_FROM]
        content = path.read_bytes()
        for entry in large:
            begin = entry.header_offset + 30 + len(entry.filename) + len(entry.extra)
            assert content[begin : begin + entry.compress_size] in stored
    assert len(large) == 2


@pytest.mark.tool("gzip")
def test_gzip_itself_reads_it(tmp_path: Path, cache: Cache) -> None:
    layer = layer_of(wheel(tmp_path), cache)
    with cache.blob_path(layer.digest).open("rb") as file:
        done = subprocess.run([shutil.which("gzip") or "gzip", "-dc"], stdin=file, capture_output=True, check=True)
    assert "sha256:" + hashlib.sha256(done.stdout).hexdigest() == layer.diff_id


def test_a_layer_of_plain_files_is_one_member(tmp_path: Path, cache: Cache) -> None:
    path = make_wheel(tmp_path, files={"demo/__init__.py": b"x = 1\n"})
    stored = cache.blob_path(layer_of(path, cache).digest).read_bytes()
    assert stored.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff") == 1


def test_the_bytes_do_not_depend_on_the_machine_clock_or_order(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    digests = {layer_of(path, Cache(tmp_path / name)).digest for name in ("one", "two")}
    assert len(digests) == 1


def test_a_deflate_stream_with_something_behind_it_is_refused(tmp_path: Path, cache: Cache) -> None:
    path = wheel(tmp_path)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("demo/b.bin")
    content = bytearray(path.read_bytes())
    # Both headers claim some bytes more than the stream has; they are those of what follows.
    true, false = entry.compress_size.to_bytes(4, "little"), (entry.compress_size + 7).to_bytes(4, "little")
    assert content.count(true) == 2
    path.write_bytes(bytes(content).replace(true, false))
    with pytest.raises(IntegrityError, match="ends elsewhere than it says"):
        layer_of(path, cache)
    assert not list((cache.root / "blobs").rglob("*")) or not cache.read_record("layers", "any")


def sample(size: int) -> bytes:
    """Lines like those of a program, the same everywhere: of a generator that is written out here."""
    words, state = (b"import", b"return", b"self.value", b"=", b"(", b")", b"None", b"0x%x", b"# why", b"\n"), 1
    lines = bytearray()
    while len(lines) < size:
        state = (state * 1103515245 + 12345) % (1 << 31)
        word = words[(state >> 16) % len(words)]
        lines += word.replace(b"%x", b"%x" % state) + b" "
    return bytes(lines[:size])


@pytest.mark.parametrize(("size", "level", "digest"), KNOWN)
def test_the_compressor_writes_the_bytes_that_it_wrote_elsewhere(size: int, level: int, digest: str) -> None:
    stream = deflate.deflate_compress(sample(size), level)
    assert zlib.decompress(bytes(stream), -15) == sample(size)
    assert hashlib.sha256(stream).hexdigest()[:32] == digest


def test_a_short_stream_is_known_byte_for_byte() -> None:
    assert GzipMembers().compress(b"x") == b""
    members = GzipMembers()
    assert members.compress(b"a" * 100) + members.flush() == bytes.fromhex(SHORT)
    assert gzip.decompress(bytes.fromhex(SHORT)) == b"a" * 100


def test_members_are_bounded_wherever_the_pieces_end() -> None:
    content = sample(3 * MEMBER_SIZE + 5)
    made = []
    for step in (len(content), MEMBER_SIZE, 300_007):
        members = GzipMembers()
        pieces = [members.compress(content[at : at + step]) for at in range(0, len(content), step)]
        made.append(b"".join(pieces) + members.flush())
    assert made[0] == made[1] == made[2]
    assert gzip.decompress(made[0]) == content
    assert sizes_of_members(made[0]) == [MEMBER_SIZE] * 3 + [5]


def sizes_of_members(stored: bytes) -> list[int]:
    sizes = []
    while stored:
        member = zlib.decompressobj(31)
        sizes.append(len(member.decompress(stored)))
        stored = member.unused_data
    return sizes


@pytest.mark.parametrize("size", [0, 1, MEMBER_SIZE - 1, MEMBER_SIZE])
def test_a_file_always_has_a_member(size: int) -> None:
    members = GzipMembers()
    stored = members.compress(bytes(size)) + members.flush()
    assert sizes_of_members(stored) == [size]
    assert members.flush() == b""


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=12))
def test_any_mixture_of_pieces_is_one_gzip_file(pieces: list[tuple[bool, bytes]]) -> None:
    members, out = GzipMembers(member_size=200), b""
    for spliced, content in pieces:
        if spliced:
            deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
            stream = deflate.compress(content) + deflate.flush()
            member = gzip_member([Deflated(content, stream)], zlib.crc32(content), len(content))
            out += members.end_member() + b"".join(piece.stored for piece in member)
        else:
            out += members.compress(content)
    out += members.flush()
    assert gzip.decompress(out) == b"".join(content for _, content in pieces)
