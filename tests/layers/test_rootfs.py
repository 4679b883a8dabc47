"""Layers become a root file system: as the OCI specification says, and never outside of its directory."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from handmade_layers import Made, directory, hardlink, symlink
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightship.errors import IntegrityError, StorageError
from lightship.layers import Layer
from lightship.layers.layer_tree import DEEPEST
from lightship.layers.rootfs import HOST_FILES, MOUNT_POINTS, resolve, root_filesystem, unpack
from lightship.oci import write_layout
from lightship.oci.image import Image, Settings
from lightship.session import Session

MakeLayer = Callable[..., Layer]


def listing(root: Path) -> dict[str, str]:
    """Every path of a root file system but what was added to mount upon, and what it is."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name in (*MOUNT_POINTS, "etc", *HOST_FILES):
            continue
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            found[name] = f"-> {path.readlink()}"
        elif stat.S_ISDIR(status.st_mode):
            found[name] = f"{stat.S_IMODE(status.st_mode):o}/"
        else:
            found[name] = f"{stat.S_IMODE(status.st_mode):o} {path.read_text()}"
    return found


@pytest.fixture
def rootfs(session: Session, raw_layer: MakeLayer) -> Callable[..., Path]:
    """`rootfs(entries, entries, ...)`: the root file system of layers that hold these."""

    def make(*layers: list[Made]) -> Path:
        return root_filesystem([raw_layer(*entries) for entries in layers], session.cache)

    return make


MakeRoot = Callable[..., Path]


def test_files_keep_content_mode_and_time(rootfs: MakeRoot) -> None:
    root = rootfs([directory("app", 0o750), Made("app/run", b"#!", mode=0o755), symlink("app/link", "/app/run")])
    assert listing(root) == {"app": "750/", "app/run": "755 #!", "app/link": "-> /app/run"}
    assert (root / "app/run").stat().st_mtime == 1_000_000_000


def test_the_umask_of_the_user_plays_no_part(rootfs: MakeRoot) -> None:
    before = os.umask(0o077)
    try:
        root = rootfs([Made("a/b", b"x", mode=0o644)])
    finally:
        os.umask(before)
    assert listing(root) == {"a": "755/", "a/b": "644 x"}
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


def test_a_later_layer_wins(rootfs: MakeRoot) -> None:
    root = rootfs([Made("a", b"1"), Made("b", b"1")], [Made("a", b"2")])
    assert listing(root) == {"a": "644 2", "b": "644 1"}


def test_a_change_of_type_replaces(rootfs: MakeRoot) -> None:
    below = [Made("a/deep/file", b"x"), Made("b", b"x"), symlink("c", "a"), symlink("d", "b"), Made("e", b"x")]
    above = [Made("a", b"file"), Made("b/in", b"y"), directory("c"), Made("d", b"file"), symlink("e", "b")]
    assert listing(rootfs(below, above)) == {
        "a": "644 file",
        "b": "755/",
        "b/in": "644 y",
        "c": "755/",
        "d": "644 file",
        "e": "-> b",
    }


def test_whiteouts_remove_what_is_below_only(rootfs: MakeRoot) -> None:
    root = rootfs(
        [Made("a/one", b"1"), Made("a/two", b"2"), Made("b/deep/x", b"x"), symlink("l", "a")],
        [Made("a/two", b"new"), Made("a/.wh.two"), Made("a/.wh.one"), Made(".wh.b"), Made(".wh.l"), Made(".wh.gone")],
    )
    assert listing(root) == {"a": "755/", "a/two": "644 new"}


def test_an_opaque_directory_hides_what_is_below_wherever_the_marker_stands(rootfs: MakeRoot) -> None:
    root = rootfs([Made("a/old", b"1"), Made("a/sub/old", b"1")], [Made("a/new", b"2"), Made("a/.wh..wh..opq")])
    assert listing(root) == {"a": "755/", "a/new": "644 2"}


def test_notes_of_aufs_are_left_out(rootfs: MakeRoot) -> None:
    assert listing(rootfs([Made(".wh..wh.plnk", b"x"), Made("a", b"1")])) == {"a": "644 1"}


def test_a_directory_of_a_later_layer_changes_the_mode_and_an_implied_one_does_not(rootfs: MakeRoot) -> None:
    assert listing(rootfs([directory("a", 0o700)], [directory("a", 0o711)])) == {"a": "711/"}
    assert listing(rootfs([directory("a", 0o700)], [Made("a/b", b"")])) == {"a": "700/", "a/b": "644 "}


def test_files_beneath_a_link_of_a_lower_layer_go_where_it_points(rootfs: MakeRoot) -> None:
    base = [directory("usr/lib"), symlink("lib", "usr/lib"), symlink("absolute", "/usr/lib")]
    root = rootfs(base, [Made("lib/one", b"1"), Made("absolute/two", b"2")], [Made("lib/.wh.one")])
    assert listing(root) == {
        "usr": "755/",
        "usr/lib": "755/",
        "usr/lib/two": "644 2",
        "lib": "-> usr/lib",
        "absolute": "-> /usr/lib",
    }


def test_hard_links_within_a_layer_and_to_a_lower_one(rootfs: MakeRoot) -> None:
    root = rootfs([Made("a", b"1"), hardlink("b", "a")], [hardlink("c/d", "./a")])
    assert listing(root) == {"a": "644 1", "b": "644 1", "c": "755/", "c/d": "644 1"}
    assert (root / "a").stat().st_ino == (root / "b").stat().st_ino == (root / "c/d").stat().st_ino


def test_replacing_a_file_leaves_the_lower_layer_as_it_was(
    rootfs: MakeRoot, session: Session, raw_layer: MakeLayer
) -> None:
    below = raw_layer(Made("a", b"1"))
    first = root_filesystem([below], session.cache)
    second = root_filesystem([below, raw_layer(Made("a", b"2", mode=0o600))], session.cache)
    assert (listing(first), listing(second)) == ({"a": "644 1"}, {"a": "600 2"})


def test_devices_and_pipes_are_left_out_and_privileges_dropped(rootfs: MakeRoot) -> None:
    root = rootfs(
        [
            Made("pipe", kind=tarfile.FIFOTYPE),
            Made("disk", kind=tarfile.BLKTYPE),
            Made("null", kind=tarfile.CHRTYPE),
            Made("su", b"", mode=0o6755),
            directory("shared", 0o3777),
        ]
    )
    assert listing(root) == {"su": "755 ", "shared": "1777/"}


def test_nothing_is_too_private_for_the_one_who_unpacks(rootfs: MakeRoot) -> None:
    assert listing(rootfs([directory("a", 0), Made("a/b", b"1", mode=0)])) == {"a": "700/", "a/b": "400 1"}


def test_there_is_what_a_container_mounts_upon(rootfs: MakeRoot) -> None:
    root = rootfs([symlink("run", "/somewhere"), Made("dev", b"x"), symlink("etc/resolv.conf", "../run/resolv.conf")])
    for name in MOUNT_POINTS:
        assert stat.S_ISDIR((root / name).lstat().st_mode)
    for name in HOST_FILES:
        assert stat.S_ISREG((root / name).lstat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_keeps_owners(rootfs: MakeRoot) -> None:
    root = rootfs([directory("home", uid=65532), Made("home/a", b"", uid=65532), Made("b", b"")])
    assert [(root / name).stat().st_uid for name in ("home", "home/a", "b")] == [65532, 65532, 0]


@pytest.mark.parametrize(
    "entries",
    [
        [Made("../outside", b"x")],
        [Made("a/../../outside", b"x")],
        [Made("a/..", b"x")],
        [symlink("a", "/tmp"), Made("a/outside", b"x")],
        [symlink("a", ".."), Made("a/outside", b"x")],
        [Made("a", b"x"), Made("a/beneath", b"x")],
        [hardlink("a", "../../outside")],
        [hardlink("a", "nothing")],
        [hardlink("a", "a")],
        [directory("d"), hardlink("a", "d")],
        [directory("d"), Made("d", b"x")],
        [Made(".wh...")],
        [Made(".wh..")],
        [Made(".wh.")],
        [Made("a/.wh...")],
        [Made("n" * 300, b"x")],
        [Made("d/" * (DEEPEST + 1) + "x")],
        [symlink("a", "")],
    ],
    ids=lambda entries: entries[-1].path[:20],
)
def test_a_hostile_layer_is_refused_and_leaves_nothing(
    entries: list[Made], rootfs: MakeRoot, session: Session, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match="made by hand"):
        rootfs(entries)
    trees = session.cache.root / "trees"
    assert list(trees.glob("rootfs/*")) == []
    assert list((session.cache.root / "tmp").iterdir()) == []
    assert not list(tmp_path.rglob("outside"))


def test_a_link_of_a_lower_layer_leads_nowhere_outside(rootfs: MakeRoot, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    up = "../" * 30
    root = rootfs(
        [symlink("absolute", str(outside)), symlink("up", up + str(outside)[1:]), symlink("loop", "loop")],
        [Made("absolute/x", b"1"), Made("up/.wh.precious"), Made("up/.wh..wh..opq"), Made("loop/x", b"2")],
    )
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (root / "absolute/x").read_text() == "1"


NAMES = st.sampled_from(["a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh...", "\u00e9"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ENTRIES = st.builds(
    Made,
    PATHS,
    st.binary(max_size=5),
    st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
    st.one_of(PATHS, PATHS.map(lambda path: "/" + path), st.just("OUTSIDE"), st.just("../../../outside")),
    st.integers(0, 0o7777),
).map(lambda entry: entry if entry.kind == tarfile.REGTYPE else replace(entry, content=b""))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=3))
def test_no_layer_reaches_outside(layers: list[list[Made]], raw_layer: MakeLayer, session: Session) -> None:
    home = session.cache.directory.parent
    outside = home / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "a").write_text("kept")
    with session.cache.temporary_directory() as place:
        target = place / "inner" / "root"
        target.mkdir(parents=True)
        made = [
            raw_layer(*(replace(e, target=str(outside)) if e.target == "OUTSIDE" else e for e in entries))
            for entries in layers
        ]
        try:
            unpack(made, session.cache, target)
        except IntegrityError as error:
            assert error.message
        assert [path.name for path in place.iterdir()] == ["inner"]
        assert [path.name for path in (place / "inner").iterdir()] == ["root"]
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("a", "kept")]
    assert {path.name for path in home.iterdir()} <= {"cache", "outside"}


def test_a_layer_that_is_not_its_diff_id_is_refused(session: Session, raw_layer: MakeLayer) -> None:
    innocent, other = raw_layer(Made("a", b"1")), raw_layer(Made("a", b"2"))
    with pytest.raises(IntegrityError, match="diff ID"):
        root_filesystem([replace(other, diff_id=innocent.diff_id)], session.cache)
    assert listing(root_filesystem([innocent], session.cache)) == {"a": "644 1"}


def test_a_layer_that_unpacks_to_more_than_it_says_is_refused(session: Session, raw_layer: MakeLayer) -> None:
    layer = raw_layer(Made("a", bytes(1 << 20)))
    with pytest.raises(IntegrityError, match="unpacks to more than"):
        root_filesystem([replace(layer, unpacked_size=4096)], session.cache)


def test_a_change_of_the_app_unpacks_only_the_app(session: Session, raw_layer: MakeLayer) -> None:
    base = raw_layer(*(Made(f"lib/{number}", b"x" * 100) for number in range(20)))
    first = root_filesystem([base, raw_layer(Made("app", b"1"))], session.cache)
    session.cache.blob_path(base.digest).unlink()  # it is not needed again
    second = root_filesystem([base, raw_layer(Made("app", b"2"))], session.cache)
    assert (first / "lib/7").stat().st_ino == (second / "lib/7").stat().st_ino
    assert ((first / "app").read_text(), (second / "app").read_text()) == ("1", "2")


def test_the_same_layers_are_laid_over_each_other_once(session: Session, raw_layer: MakeLayer) -> None:
    layers = [raw_layer(Made("a", b"1"))]
    first = root_filesystem(layers, session.cache)
    inode = first.stat().st_ino
    assert root_filesystem(layers, session.cache).stat().st_ino == inode


def test_a_cache_that_cannot_be_written_says_so(session: Session, raw_layer: MakeLayer) -> None:
    layer = raw_layer(Made("a", b"1"))
    (session.cache.root / "trees").write_text("in the way")
    with pytest.raises(StorageError):
        root_filesystem([layer], session.cache)


def test_files_are_copied_where_they_cannot_be_linked(session: Session, raw_layer: MakeLayer) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == session.cache.directory.parent.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        root = Path(directory)
        unpack([raw_layer(Made("a", b"1", mode=0o755, uid=65532), symlink("b", "a"))], session.cache, root)
        assert listing(root) == {"a": "755 1", "b": "-> a"}
        assert (root / "a").stat().st_uid == (os.geteuid() or 65532)


def test_resolving_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "up").symlink_to("../../..")
    (tmp_path / "loop").symlink_to("loop")
    assert resolve(tmp_path, "lib") == "usr/lib"
    assert resolve(tmp_path, "/up/lib/../lib/./") == "usr/lib"
    assert resolve(tmp_path, "../..") == ""
    assert resolve(tmp_path, "loop") is None
    assert resolve(tmp_path, "lib/none") is None


@pytest.mark.tool("umoci")
@pytest.mark.skipif(os.geteuid() != 0, reason="umoci keeps owners only as root")
def test_umoci_unpacks_the_same(session: Session, raw_layer: MakeLayer, tmp_path: Path) -> None:
    layers = (
        raw_layer(
            directory("usr/lib", 0o711),
            Made("usr/lib/a", b"1", mode=0o755),
            hardlink("usr/lib/b", "usr/lib/a"),
            symlink("lib", "usr/lib"),
            Made("var/old/x", b"x"),
            Made("var/one", b"1"),
            Made("turn/into/file", b"1"),
        ),
        raw_layer(
            Made("lib/c", b"2"),
            Made("var/old/.wh..wh..opq"),
            Made("var/old/new", b"2"),
            Made("var/.wh.one"),
            Made("turn", b"a file", mode=0o600),
            hardlink("linked", "usr/lib/a"),
        ),
        raw_layer(directory("var", 0o700), Made("usr/lib/.wh.b"), symlink("turn", "var")),
    )
    image = Image(layers, Settings(entrypoint=("/bin/true",)))
    write_layout(image, session.cache, tmp_path / "layout", name="test:test")
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path / 'layout'}:test", tmp_path / "bundle"],
        check=True,
        capture_output=True,
    )
    assert listing(root_filesystem(layers, session.cache)) == listing(tmp_path / "bundle/rootfs")
