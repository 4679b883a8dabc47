"""From a lock to one layer: the same bytes for everybody, and nothing touched where it is in the cache."""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from debian_archive import Deb, entry, environment, lock_of, runtime_packages, symlink, write_pool

from lightship.bases.base import Base
from lightship.bases.debian import DebianLock, build_debian
from lightship.cache import Cache
from lightship.errors import IntegrityError, NetworkError
from lightship.layers import Compression
from lightship.session import Session

GOLDEN = Path(__file__).with_name("debian_base.txt")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    directory = tmp_path / "mirror"
    write_pool(directory, runtime_packages())
    return directory


def session_in(directory: Path, jobs: int = 2) -> Session:
    return Session(cache=Cache(directory), environ=environment(), jobs=jobs)


def build(lock: DebianLock, session: Session, mirror: Path, compression: Compression = Compression.NONE) -> Base:
    return build_debian(lock, session, compression, mirror=mirror.as_uri())


def listing(base: Base, session: Session) -> str:
    """Every entry of the layer, one a line, as a reviewer reads it."""
    lines = []
    with tarfile.open(session.cache.blob_path(base.layers[0].digest)) as tar:
        for member in tar:
            assert member.mtime == 315532800
            assert (member.uname, member.gname) == ("", "")
            arrow = {tarfile.SYMTYPE: " -> ", tarfile.LNKTYPE: " == "}.get(member.type, "")
            kind = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK}.get(member.type, stat.S_IFREG)
            mode = stat.filemode(kind | member.mode)
            lines.append(f"{mode} {member.uid}:{member.gid} {member.size:>5} {member.name}{arrow}{member.linkname}\n")
    return "".join(lines)


def content(base: Base, session: Session, path: str) -> bytes:
    with tarfile.open(session.cache.blob_path(base.layers[0].digest)) as tar:
        file = tar.extractfile(path)
        assert file is not None
        return file.read()


def test_a_small_base_is_what_the_golden_listing_says(mirror: Path, tmp_path: Path) -> None:
    """After an intended change: UPDATE_GOLDEN=1 pytest, then read the difference."""
    session = session_in(tmp_path / "cache")
    found = listing(build(lock_of(runtime_packages()), session, mirror), session)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_what_the_scripts_would_have_written_is_there(mirror: Path, tmp_path: Path) -> None:
    session = session_in(tmp_path / "cache")
    base = build(lock_of(runtime_packages()), session, mirror)
    assert content(base, session, "etc/ssl/certs/ca-certificates.crt") == b"-- A --\n-- B --\n"
    assert content(base, session, "etc/nsswitch.conf") == b"hosts: files dns\n"
    assert b"nonroot:x:65532:65532:" in content(base, session, "etc/passwd")
    record = content(base, session, "var/lib/dpkg/status.d/base-files")
    assert record.startswith(b"Package: base-files\nVersion: 12.4\n")
    assert record.endswith(b"Description: a test\n of several lines\n")
    sums = content(base, session, "var/lib/dpkg/status.d/base-files.md5sums").decode()
    files = [line.split()[1] for line in sums.splitlines()]
    assert files == ["usr/lib/os-release", "usr/share/doc/base-files/copyright"]


def test_the_base_tells_what_images_need_to_know(mirror: Path, tmp_path: Path) -> None:
    base = build(lock_of(runtime_packages()), session_in(tmp_path / "cache"), mirror)
    assert (base.reference, base.digest, base.architecture) == ("debian:bookworm", None, "amd64")
    assert base.os_release == "Debian GNU/Linux 12 (bookworm)"
    assert (base.interpreter.path, base.interpreter.version) == ("/usr/bin/python3.11", "3.11.2")
    assert (base.layers[0].kind, base.layers[0].title) == ("base", "Debian GNU/Linux 12 (bookworm), 10 packages")
    root = base.interpreter.root()
    assert (root / "usr/bin/python3").read_text() == "python"
    assert os.access(root / "usr/bin/python3.11", os.X_OK)


def test_caches_umasks_and_numbers_of_jobs_do_not_change_a_byte(mirror: Path, tmp_path: Path) -> None:
    lock = lock_of(runtime_packages())
    digests = set()
    for number, (umask, jobs) in enumerate([(0o022, 1), (0o077, 2), (0o000, 4)]):
        before = os.umask(umask)
        try:
            base = build(lock, session_in(tmp_path / f"cache{number}", jobs), mirror, Compression.ZSTD)
        finally:
            os.umask(before)
        digests.add(base.layers[0].digest)
    assert len(digests) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_normal_user_builds_the_same_bytes_as_root() -> None:
    packages = runtime_packages()
    lock = lock_of(packages)
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to other users
        directory = Path(name)
        directory.chmod(0o755)
        write_pool(directory / "mirror", packages)
        as_root = build(lock, session_in(directory / "root"), directory / "mirror").layers[0].digest
        cache = directory / "user"
        cache.mkdir()
        os.chown(cache, 12345, 12345)
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.setgroups([])
                os.setgid(12345)
                os.setuid(12345)
                os.write(writing, build(lock, session_in(cache), directory / "mirror").layers[0].digest.encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading) as answer:  # noqa: PTH123 (a descriptor)
            assert answer.read() == as_root
        os.waitpid(child, 0)


def test_a_layer_in_the_cache_needs_neither_packages_nor_a_mirror(mirror: Path, tmp_path: Path) -> None:
    session = session_in(tmp_path / "cache")
    lock = lock_of(runtime_packages())
    first = build(lock, session, mirror)
    for package in lock.packages:
        session.cache.blob_path(f"sha256:{package.sha256}").unlink()
    again = build_debian(lock, replace(session, offline=True), Compression.NONE, mirror="file:///nowhere")
    assert again.layers[0].from_cache
    assert again.layers[0].digest == first.layers[0].digest


def test_an_unpacked_base_that_was_pruned_comes_back_from_the_layer(mirror: Path, tmp_path: Path) -> None:
    session = session_in(tmp_path / "cache")
    base = build(lock_of(runtime_packages()), session, mirror, Compression.GZIP)
    root = base.interpreter.root()

    def state() -> dict[str, tuple[int, str]]:
        return {
            str(path.relative_to(root)): (path.lstat().st_mode, str(path.readlink()) if path.is_symlink() else "")
            for path in root.rglob("*")
        }

    before = state()
    root.rename(tmp_path / "away")
    assert base.interpreter.root() == root
    assert state() == before


def test_packages_that_have_left_the_mirror_are_named_all(mirror: Path, tmp_path: Path) -> None:
    lock = lock_of(runtime_packages())
    for package in lock.packages:
        if package.name in ("tzdata", "netbase"):
            (mirror / package.path).unlink()
    with pytest.raises(NetworkError, match=r"no longer has .*: netbase 6\.4, tzdata 2026a\.") as caught:
        build(lock, session_in(tmp_path / "cache"), mirror)
    assert "lightship lock" in (caught.value.hint or "")


def test_a_package_with_other_bytes_than_locked_is_refused_and_leaves_nothing(mirror: Path, tmp_path: Path) -> None:
    lock = lock_of(runtime_packages())
    path = mirror / lock.packages[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    session = session_in(tmp_path / "cache")
    with pytest.raises(IntegrityError, match=lock.packages[0].name):
        build(lock, session, mirror)
    assert not session.cache.has_blob(f"sha256:{lock.packages[0].sha256}")
    assert not any((session.cache.root / "tmp").iterdir())


def test_a_package_that_calls_itself_something_else_is_refused(mirror: Path, tmp_path: Path) -> None:
    other = Deb("other", "6.4", "all")
    write_pool(mirror, [other])
    packages = [package.locked for package in runtime_packages() if package.name != "netbase"]
    lock = DebianLock("bookworm", "amd64", tuple(sorted([*packages, replace(other.locked, name="netbase")])))
    with pytest.raises(IntegrityError, match=r"netbase 6\.4 says in itself that it is another one"):
        build(lock, session_in(tmp_path / "cache"), mirror)


def test_a_module_comes_with_its_library(mirror: Path, tmp_path: Path) -> None:
    module = "usr/lib/python3.11/lib-dynload/_dbm.cpython-311-x86_64-linux-gnu.so"
    extra = Deb("module", files=[entry(f"./{module}", b"x")])
    library = Deb("libdb5.3", "5.3")
    write_pool(mirror, [extra, library])
    session = session_in(tmp_path / "cache")
    assert module not in listing(build(lock_of([*runtime_packages(), extra]), session, mirror), session)
    assert module in listing(build(lock_of([*runtime_packages(), extra, library]), session, mirror), session)


def test_alternatives_become_links_by_priority(mirror: Path, tmp_path: Path) -> None:
    def blas(name: str, folder: str, priority: int, more: str = "") -> Deb:
        call = f"--install /usr/lib/libblas.so.3 libblas.so.3 \\\n  /usr/lib/{folder}/libblas.so.3 {priority}{more}"
        script = f"#!/bin/sh\nset -e\nupdate-alternatives {call}\n".encode()
        return Deb(name, files=[entry(f"./usr/lib/{folder}/libblas.so.3", b"x")], scripts={"postinst": script})

    packages = [
        blas("libblas3", "blas", 10, " --slave /usr/share/blas x /usr/lib/blas/libblas.so.3"),
        blas("libopenblas0", "openblas", 100),
        Deb(
            "tricky",
            files=[entry("./usr/bin/editor", b"x"), symlink("./usr/bin/vi", "editor")],
            scripts={
                "postinst": b"update-alternatives --install $x y /usr/bin/vi 1\n"
                b"update-alternatives --install /usr/bin/editor editor /usr/bin/vi 1\n"
                b"update-alternatives --install /usr/bin/gone gone /usr/bin/nothing 1\n"
                b"update-alternatives --install /usr/../../x x /usr/bin/vi 1\n"
                b"update-alternatives --install 'unfinished\n"
                b"update-alternatives --install /usr/bin/short\n"
            },
        ),
    ]
    write_pool(mirror, packages)
    session = session_in(tmp_path / "cache")
    found = listing(build(lock_of([*runtime_packages(), *packages]), session, mirror), session)
    assert "usr/lib/libblas.so.3 -> /usr/lib/openblas/libblas.so.3" in found
    assert "usr/share/blas -> /usr/lib/blas/libblas.so.3" in found
    assert "usr/bin/gone" not in found
    assert "-rw-r--r-- 0:0     1 usr/bin/editor\n" in found


def test_hard_links_stay_hard_links_whichever_name_comes_first(mirror: Path, tmp_path: Path) -> None:
    linked = entry("./usr/bin/a-link", kind=tarfile.LNKTYPE, target="./usr/bin/the-file")
    extra = Deb("extra", files=[entry("./usr/bin/the-file", b"12345", mode=0o755), linked])
    write_pool(mirror, [extra])
    session = session_in(tmp_path / "cache")
    base = build(lock_of([*runtime_packages(), extra]), session, mirror)
    found = listing(base, session)
    assert "-rwxr-xr-x 0:0     5 usr/bin/a-link\n" in found
    assert "usr/bin/the-file == usr/bin/a-link" in found
    assert (base.interpreter.root() / "usr/bin/the-file").read_bytes() == b"12345"
