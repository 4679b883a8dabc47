"""Layers that were made to break their reader."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.contents.archive_scan import scan_archive
from lightship.contents.file_tree import FileTree
from lightship.contents.layer_scan import Budget, LayerScan, scan_layer
from lightship.contents.packages import Packages, read_metadata
from lightship.errors import LightshipError

NAMES = st.sampled_from(["a", "b", "..", ".", ".wh.a", ".wh.", ".wh..wh..opq", "c d", "\x1b"])
ENTRIES = st.lists(
    st.tuples(
        st.lists(NAMES, min_size=1, max_size=4).map("/".join),
        st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
        st.binary(max_size=8),
    ),
    max_size=12,
)


def layer(entries: list[tuple[str, bytes, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, kind, content in entries:
            member = tarfile.TarInfo(path)
            member.type, member.linkname = kind, "a/../.." if kind != tarfile.REGTYPE else ""
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def scanned(content: bytes, budget: Budget | None = None) -> LayerScan:
    return scan_layer(io.BytesIO(content), "The layer", budget or Budget())


@given(st.lists(ENTRIES, max_size=4))
def test_every_byte_is_seen_or_hidden(layers: list[list[tuple[str, bytes, bytes]]]) -> None:
    tree = FileTree()
    stored = 0
    for number, entries in enumerate(layers):
        scan = scanned(layer(entries))
        stored += sum(file.size for file in scan.files)
        tree.lay(scan, number)
    paths = [placed.file.path for placed in tree.files()]
    assert len(paths) == len(set(paths))
    assert all(path and ".." not in path.split("/") and not path.startswith("/") for path in paths)
    seen = sum(placed.file.size for placed in tree.files())
    assert stored == seen + sum(each.size for each in tree.buried)


@given(ENTRIES, st.data())
def test_a_damaged_layer_is_read_or_refused(entries: list[tuple[str, bytes, bytes]], data: st.DataObject) -> None:
    content = bytearray(layer(entries))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    whole = bytes(content[: data.draw(st.integers(0, len(content)))])
    for stored in (whole, gzip.compress(whole)):
        with contextlib.suppress(LightshipError):
            scanned(stored)


@given(st.binary(max_size=2000))
def test_any_bytes_are_an_archive_or_refused(content: bytes) -> None:
    with contextlib.suppress(LightshipError):
        scan_archive(iter([content]), "The archive", Budget(), lambda size: None)


@given(
    st.sampled_from(["a/b-1.dist-info/RECORD", "var/lib/dpkg/status", "var/lib/dpkg/info/a:b.list"]),
    st.one_of(st.binary(max_size=400), st.text(max_size=400).map(str.encode)),
)
def test_damaged_records_bring_nothing_down(path: str, content: bytes) -> None:
    Packages([read_metadata(path, content)], {"lib": "../../usr/lib"}).owner("usr/lib/a")


def test_more_entries_than_is_reasonable_are_refused() -> None:
    content = layer([(f"f{number}", tarfile.REGTYPE, b"") for number in range(20)])
    budget = Budget(files=30)
    scanned(content, budget)
    with pytest.raises(LightshipError, match="than is reasonable"):
        scanned(content, budget)


def test_longer_names_than_is_reasonable_are_refused() -> None:
    with pytest.raises(LightshipError, match="than is reasonable"):
        scanned(layer([("n" * 90, tarfile.REGTYPE, b"")] * 20), Budget(name_bytes=1000))


def test_names_that_records_claim_count_too() -> None:
    record = b"".join(b"%090d,,\n" % number for number in range(20))
    with pytest.raises(LightshipError, match="than is reasonable"):
        scanned(layer([("a-1.dist-info/RECORD", tarfile.REGTYPE, record)]), Budget(name_bytes=1000))


def test_deep_paths_are_refused() -> None:
    with pytest.raises(LightshipError, match="directories"):
        scanned(layer([("d/" * 300 + "f", tarfile.REGTYPE, b"")]))


def test_a_file_that_takes_the_place_of_a_directory_hides_it() -> None:
    tree = FileTree()
    tree.lay(scanned(layer([("d/e/f", tarfile.REGTYPE, b"1234")])), 0)
    tree.lay(scanned(layer([("d", tarfile.REGTYPE, b"12")])), 1)
    assert [placed.file.path for placed in tree.files()] == ["d"]
    assert [(each.path, each.size, each.by_layer) for each in tree.buried] == [("d/e/f", 4, 1)]
