"""Packages are read in pieces and within bounds; what a package may not hold is refused."""

from __future__ import annotations

import lzma
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from debian_archive import COMPRESSORS, Deb, archive, entry, folder, symlink, tarball
from hypothesis import given, settings
from hypothesis import strategies as st

from lightship.bases.debian.deb import open_deb
from lightship.bases.debian.filesystem import RootFileSystem
from lightship.bases.debian.streams import decompressed
from lightship.bases.debian.unpack import merged, unpack_all
from lightship.errors import IntegrityError
from lightship.layers.tar_stream import TarStream


def pieces(content: bytes, size: int = 1000) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def unpacked(tmp_path: Path, *packages: Deb, jobs: int = 2) -> RootFileSystem:
    files = []
    for package in packages:
        path = tmp_path / f"{package.name}.deb"
        path.write_bytes(package.content)
        files.append((package.locked, path))
    directory = tmp_path / "root"
    directory.mkdir()
    tree = RootFileSystem(directory)
    unpack_all(files, tree, ["nis"], jobs)
    return tree


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_every_compression_of_dpkg_is_read(compression: str, tmp_path: Path) -> None:
    content = os.urandom(3000) * 1000
    tree = unpacked(tmp_path, Deb("aa", files=[entry("./usr/x", content)], compression=compression))
    assert (tree.directory / "usr/x").read_bytes() == content


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_a_package_that_was_cut_is_refused(compression: str, tmp_path: Path) -> None:
    content = Deb("aa", files=[entry("./usr/x", os.urandom(3000))], compression=compression).content
    path = tmp_path / "aa.deb"
    for size in (0, 7, 8, 100, len(content) // 2, len(content) - 1000):
        path.write_bytes(content[:size])
        (tmp_path / str(size)).mkdir()
        with pytest.raises(IntegrityError, match=r"The Debian package aa 1\.0 is refused"):
            unpack_all([(Deb("aa").locked, path)], RootFileSystem(tmp_path / str(size)), [], 1)


@pytest.mark.tool("dpkg-deb")
@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
def test_what_dpkg_deb_writes_is_read(compression: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    long = "a" * 90 + "/" + "b" * 120
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN/control").write_text(
        "Package: aa\nVersion: 1.0\nArchitecture: amd64\nMaintainer: Me <me@example.org>\nDescription: x\n"
    )
    (source / long).parent.mkdir(parents=True)
    (source / long).write_text("deep")
    (source / "link").symlink_to(long)
    (source / "hard").hardlink_to(source / long)
    made = subprocess.run(
        ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "-b", "source", "aa.deb"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if made.returncode != 0 and b"zstd" in made.stderr:
        pytest.skip("this dpkg-deb does not write zstd")
    (tmp_path / "root").mkdir()
    tree = RootFileSystem(tmp_path / "root")
    (result,) = unpack_all([(Deb("aa").locked, tmp_path / "aa.deb")], tree, [], 1)
    assert result.control["control"].startswith(b"Package: aa\n")
    assert tree.read("link") == tree.read("hard") == b"deep"


HOSTILE = {
    "absolute": [entry("/etc/passwd", b"x")],
    "climbing": [entry("./../etc/passwd", b"x")],
    "climbing inside": [entry("./usr/../../etc/passwd", b"x")],
    "doubled slash": [entry(".//etc/passwd", b"x")],
    "through a link": [symlink("./usr/out", "/etc"), entry("./usr/out/passwd", b"x")],
    "through a relative link": [symlink("./usr/out", "../../../../tmp"), entry("./usr/out/x", b"x")],
    "through a file": [entry("./usr/x", b"x"), entry("./usr/x/y", b"y")],
    "a file for a directory": [entry("./usr/x/y", b"y"), entry("./usr/x", b"x")],
    "a link for a directory": [folder("./usr/x"), symlink("./usr/x", "/etc")],
    "a directory for a link": [symlink("./usr/x", "/etc"), folder("./usr/x")],
    "a file twice": [entry("./usr/x", b"x"), entry("./usr/x", b"y")],
    "a file over a link": [symlink("./usr/x", "/etc/passwd"), entry("./usr/x", b"y")],
    "a file for an alias": [entry("./lib", b"y")],
    "a device": [entry("./dev/sda", kind=tarfile.BLKTYPE)],
    "a character device": [entry("./dev/null", kind=tarfile.CHRTYPE)],
    "a pipe": [entry("./run/pipe", kind=tarfile.FIFOTYPE)],
    "a hard link to nothing": [entry("./usr/x", kind=tarfile.LNKTYPE, target="./usr/y")],
    "a hard link to outside": [entry("./usr/x", kind=tarfile.LNKTYPE, target="../../etc/passwd")],
    "an absolute hard link": [entry("./usr/x", kind=tarfile.LNKTYPE, target="/etc/passwd")],
    "a hard link to a link": [symlink("./usr/y", "/etc"), entry("./usr/x", kind=tarfile.LNKTYPE, target="./usr/y")],
    "an empty link": [symlink("./usr/x", "")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_package_that_would_escape_or_overwrite_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"The Debian package aa 1\.0 is refused"):
        unpacked(tmp_path, Deb("aa", files=HOSTILE[kind]))


def test_links_on_disk_never_lead_out_of_the_tree(tmp_path: Path) -> None:
    links = {"./usr/lib/a": "/etc/passwd", "./usr/lib/b": "../../../../../etc/passwd", "./usr/c": "lib/../../../etc"}
    tree = unpacked(tmp_path, Deb("aa", files=[symlink(path, target) for path, target in links.items()]))
    for path, target in links.items():
        assert tree.entries[path.removeprefix("./")].target == target
        assert (tree.directory / path).resolve().is_relative_to(tree.directory.resolve() / "etc")


def test_two_packages_with_one_file_are_refused_in_any_order(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="/usr/x comes twice"):
        unpacked(tmp_path, Deb("aa", files=[entry("./usr/x", b"1")]), Deb("bb", files=[entry("./usr/x", b"2")]))


def test_set_user_id_bits_and_owners_are_dropped(tmp_path: Path) -> None:
    owned, content = entry("./usr/x", b"1", mode=0o6755)
    owned.uid = owned.gid = 1000
    tree = unpacked(tmp_path, Deb("aa", files=[(owned, content), folder("./usr/y", 0o3770)]))
    assert (tree.entries["usr/x"].mode, tree.entries["usr/x"].uid) == (0o755, 0)
    assert tree.entries["usr/y"].mode == 0o1770


def test_the_mode_of_a_shared_directory_does_not_depend_on_the_order(tmp_path: Path) -> None:
    packages = [
        Deb("aa", files=[folder("./usr/x", 0o755)]),
        Deb("bb", files=[folder("./usr/x", 0o750), entry("./usr/x/b")]),
        Deb("cc", files=[folder("./usr/x", 0o711)]),
        Deb("dd", files=[entry("./usr/x/d")]),
    ]
    for number, order in enumerate((packages, packages[::-1], [packages[3], packages[1], packages[0], packages[2]])):
        (tmp_path / str(number)).mkdir()
        assert unpacked(tmp_path / str(number), *order, jobs=1).entries["usr/x"].mode == 0o711


def test_the_layout_is_that_of_a_merged_usr(tmp_path: Path) -> None:
    tree = unpacked(
        tmp_path,
        Deb("aa", files=[folder("./bin/"), symlink("./lib64", "usr/lib64"), entry("./lib64/l"), entry("./bin/x")]),
        Deb("bb", files=[entry("./usr/bin/y"), folder("./var/run/"), entry("./var/run/z"), entry("./library/z")]),
    )
    files = [path for path, each in tree.entries.items() if each.kind == "file"]
    assert sorted(files) == ["library/z", "run/z", "usr/bin/x", "usr/bin/y", "usr/lib64/l"]
    assert merged("sbin") == "usr/sbin"


def test_documentation_stays_out_and_copyright_stays_in(tmp_path: Path) -> None:
    kept = [
        "usr/share/doc/aa/copyright",
        "usr/share/common-licenses/GPL-3",
        "usr/lib/locale/C.utf8/LC_CTYPE",
        "usr/lib/python3.11/unittest/case.py",
        "usr/lib/python3.11/lib-dynload/_ssl.cpython-311.so",
        "usr/share/zoneinfo/Europe/Berlin",
        "usr/share/mandrake",
    ]
    dropped = [
        "usr/share/doc/aa/changelog.gz",
        "usr/share/doc/aa/examples/copyrights/x",
        "usr/share/man/man1/x.1.gz",
        "usr/share/locale/de/LC_MESSAGES/x.mo",
        "usr/share/lintian/overrides/aa",
        "usr/lib/python3.11/test/support/__init__.py",
        "usr/lib/python3.11/lib-dynload/nis.cpython-311.so",
        "usr/share/zoneinfo/right/Europe/Berlin",
    ]
    tree = unpacked(tmp_path, Deb("aa", files=[entry(f"./{path}", b"x") for path in kept + dropped]))
    assert sorted(path for path, each in tree.entries.items() if each.kind == "file") == sorted(kept)


def test_a_bomb_is_stopped_by_its_size() -> None:
    bomb = zstandard.compress(tarball([entry("a", bytes(50 << 20))]))
    stream = TarStream(decompressed(iter([bomb]), ".zst"), "its data.tar", most_bytes=10 << 20)
    with pytest.raises(IntegrityError, match=r"its data\.tar unpacks to more than 10485760 bytes"):
        list(stream)


@pytest.mark.parametrize(
    "members",
    [
        [],
        [("debian-binary", b"3.0\n")],
        [("debian-binary", b"2.0\n"), ("data.tar", tarball([]))],
        [("debian-binary", b"2.0\n"), ("control.tar.lzo", tarball([]))],
        [("debian-binary", b"2.0\n"), ("control.tar.xz", b"not xz")],
    ],
)
def test_an_archive_that_is_no_package_is_refused(members: list[tuple[str, bytes]], tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(archive(members))
    with pytest.raises(IntegrityError, match="The Debian package x is refused"), open_deb(path, "x") as deb:
        deb.control()
        list(deb.data())


def test_members_for_others_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    control, data = tarball([entry("control", b"Package: x\n")]), lzma.compress(tarball([entry("a", b"1")]))
    path.write_bytes(
        archive(
            [
                ("debian-binary", b"2.0\n"),
                ("_odd", b"123"),
                ("control.tar", control),
                ("_x", b""),
                ("data.tar.xz", data),
            ]
        )
    )
    with open_deb(path, "x") as deb:
        assert deb.control() == {"control": b"Package: x\n"}
        assert [member.path for member in deb.data()] == ["a"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_packages_raise_nothing_but_integrity_errors(data: st.DataObject, tmp_path_factory) -> None:
    content = bytearray(Deb("aa", files=[folder("./usr"), entry("./usr/x", b"1" * 600)], compression="").content)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder_path = tmp_path_factory.mktemp("damaged")
    (folder_path / "aa.deb").write_bytes(content)
    (folder_path / "root").mkdir()
    try:
        unpack_all([(Deb("aa").locked, folder_path / "aa.deb")], RootFileSystem(folder_path / "root"), [], 1)
    except IntegrityError as error:
        assert "aa 1.0" in error.message
