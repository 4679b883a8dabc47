"""Tar streams: deterministic, readable by everybody, unable to break the rules of a layer."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.errors import IntegrityError
from lightship.layers.tar import EPOCH, TarWriter, safe_path


def written(fill) -> bytes:  # type: ignore[no-untyped-def]
    out = io.BytesIO()
    tar = TarWriter(out)
    fill(tar)
    tar.close()
    return out.getvalue()


def sample(tar: TarWriter) -> None:
    tar.directory("etc")
    tar.content("etc/passwd", b"root:x:0:0::/:\n")
    tar.content("usr/bin/tool", b"#!/bin/sh\n", mode=0o755)
    tar.symlink("bin", "usr/bin")
    tar.hardlink("usr/bin/again", "usr/bin/tool")
    tar.directory("tmp", mode=0o1777)
    tar.directory("home/nonroot", uid=65532, gid=65532, mode=0o700)
    tar.content("a/" + "long/" * 60 + "name", b"x")


def test_the_bytes_are_what_they_always_were() -> None:
    # Golden: a change here changes every digest that users have published. Bump recipe versions with it.
    assert hashlib.sha256(written(sample)).hexdigest() == (
        "c8b0e7759d6d6a92417b7d7014bd5a9a1b85ff1b290b16e0637f435554d7dd6c"
    )


def test_every_entry_has_fixed_time_and_owner_names() -> None:
    with tarfile.open(fileobj=io.BytesIO(written(sample))) as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uname, m.gname) for m in members} == {(EPOCH, "", "")}
    assert [m.name for m in members][:3] == ["etc", "etc/passwd", "usr"]
    assert next(m for m in members if m.name == "home/nonroot").uid == 65532
    assert next(m for m in members if m.name == "tmp").mode == 0o1777


def test_parents_come_before_children_once_each() -> None:
    with tarfile.open(fileobj=io.BytesIO(written(sample))) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    for name in names:
        parent = name.rpartition("/")[0]
        assert not parent or names.index(parent) < names.index(name)


@pytest.mark.parametrize("path", ["", "/etc", "../x", "a/../b", "a//b", "./a", "a/", "a\0b", "."])
def test_a_path_that_could_escape_is_refused(path: str) -> None:
    with pytest.raises(IntegrityError):
        safe_path(path)


def test_one_path_twice_is_refused() -> None:
    with pytest.raises(IntegrityError, match="twice"):
        written(lambda tar: (tar.content("a", b""), tar.content("a", b"")))


def test_a_file_that_is_also_a_directory_is_refused() -> None:
    with pytest.raises(IntegrityError, match="as a file and as a directory"):
        written(lambda tar: (tar.content("a", b""), tar.content("a/b", b"")))


def test_a_hard_link_to_what_is_not_there_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not earlier"):
        written(lambda tar: tar.hardlink("a", "b"))


@pytest.mark.parametrize("chunks", [[b"abc"], [b"abcde", b"f"], []])
def test_content_of_another_size_than_announced_is_refused(chunks: list[bytes]) -> None:
    with pytest.raises(IntegrityError, match="bytes"):
        written(lambda tar: tar.file("a", 5, chunks))


names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=150)


@given(st.dictionaries(names.filter(lambda n: n not in {".", ".."}), st.binary(max_size=2000), max_size=8))
def test_what_goes_in_comes_out(files: dict[str, bytes]) -> None:
    def fill(tar: TarWriter) -> None:
        for name in sorted(files):
            tar.content(f"d/{name}", files[name])

    data = written(fill)
    assert len(data) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        got = {m.name.removeprefix("d/"): tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    assert got == files
