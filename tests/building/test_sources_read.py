"""Sources as they are read on this side of the sandbox: folders, archives, descriptions, lines of requirements."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
from source_packages import write_package, write_sdist

from lightship.building.archive import unpack_archive
from lightship.building.failure import SourceBuildError
from lightship.building.pyproject import read_build_system
from lightship.building.snapshot import LARGEST, copy_folder, folder_digest
from lightship.errors import IntegrityError, LockError, ProjectError
from lightship.lock.requirements_file import Line
from lightship.lock.sources import Source, place_in_lock, source_of_line

FILES = {"pyproject.toml": "", ".gitignore": "x", "src/own/__init__.py": "", "requirements.txt": ""}


def listed(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# Folders


def test_a_copy_of_a_folder_holds_what_counts_and_no_more(tmp_path: Path) -> None:
    left = {".git/HEAD": "", ".env": "KEY=1", "build/lib/own.py": "", "dist/own.whl": "", "own.egg-info/PKG-INFO": ""}
    left |= {"lightship.lock": "", "src/own/__pycache__/x.pyc": "", "notes/secret.md": ""}
    write_package(tmp_path / "own", {**FILES, **left, ".lightshipignore": "notes\n"})
    with (tmp_path / "own" / "model.bin").open("wb") as file:
        file.truncate(LARGEST)
    copy_folder(tmp_path / "own", tmp_path / "copy")
    assert listed(tmp_path / "copy") == set(FILES)


def test_a_package_that_is_called_build_is_no_leftover(tmp_path: Path) -> None:
    write_package(tmp_path / "own", {"build/__init__.py": "", "pyproject.toml": ""})
    copy_folder(tmp_path / "own", tmp_path / "copy")
    assert "build/__init__.py" in listed(tmp_path / "copy")


@pytest.mark.parametrize(
    ("path", "text", "mode", "same"),
    [
        ("src/own/__init__.py", "changed", 0o644, False),
        ("src/own/new.py", "", 0o644, False),
        ("src/own/__init__.py", "", 0o755, False),
        ("src/own/__pycache__/own.pyc", "x", 0o644, True),
        ("src/own/__init__.py", "", 0o640, True),
    ],
)
def test_the_digest_of_a_folder_follows_what_is_built_of_it(
    tmp_path: Path, path: str, text: str, mode: int, same: bool
) -> None:
    folder = write_package(tmp_path / "own", FILES)
    before = folder_digest(folder)
    write_package(folder, {path: text})
    (folder / path).chmod(mode)
    assert (folder_digest(folder) == before) is same


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"no folder .*gone"):
        folder_digest(tmp_path / "gone")


# Archives


@pytest.mark.parametrize("packed", ["gz", "xz", "zip", "plain"])
def test_archives_of_every_kind_are_unpacked_without_their_top_folder(tmp_path: Path, packed: str) -> None:
    sdist = write_sdist(tmp_path, "own", {"own.py": "VALUE = 1\n"})
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "files", filter="data")
    path = tmp_path / "archive"
    if packed == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for file in sorted((tmp_path / "files").glob("*/*.*")):
                zipped.writestr(str(file.relative_to(tmp_path / "files")), file.read_text())
    else:
        with tarfile.open(path, f"w:{'' if packed == 'plain' else packed}") as archive:
            archive.add(tmp_path / "files" / "own-1.0", "./own-1.0")
    unpack_archive(path, tmp_path / "out", "own")
    assert (tmp_path / "out" / "own.py").read_text() == "VALUE = 1\n"


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, size
    return entry


@pytest.mark.parametrize(
    "entries",
    [
        [member("../escaped")],
        [member("/tmp/escaped")],
        [member("own/../../escaped")],
        [member("own/dev", tarfile.CHRTYPE)],
        [member("own/link", tarfile.LNKTYPE, "/etc/passwd")],
        [member("own/link", tarfile.LNKTYPE, "../../etc/passwd")],
        [member("own/link", tarfile.SYMTYPE, "/tmp"), member("own/link/escaped")],
        [member("own/huge", size=5 << 30)],
        [member("own/sock", b"s")],
    ],
)
def test_a_hostile_tar_is_refused(tmp_path: Path, entries: list[tarfile.TarInfo]) -> None:
    path = tmp_path / "own.tar"
    content = b"".join(entry.tobuf() for entry in entries) + bytes(1024)
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"own 1\.0: "):
        unpack_archive(path, tmp_path / "out", "own 1.0")
    assert not (tmp_path / "escaped").exists()


def test_links_lead_nowhere_outside(tmp_path: Path) -> None:
    path = tmp_path / "own.tar"
    entries = [
        member("own/a", tarfile.SYMTYPE, "../../../etc/passwd"),
        member("own/b", tarfile.SYMTYPE, "/etc/passwd"),
    ]
    path.write_bytes(b"".join(entry.tobuf() for entry in entries) + bytes(1024))
    unpack_archive(path, tmp_path / "out", "own")
    for name in ("a", "b"):
        assert not (tmp_path / "out" / name).exists()  # within the archive there is nothing that they could mean


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "own/../../escaped"])
def test_a_hostile_zip_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "own.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(IntegrityError, match="own: "):
        unpack_archive(path, tmp_path / "out", "own")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b damaged", lzma.compress(bytes(9000))[:60]])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.tar.gz"
    path.write_bytes(content)
    with pytest.raises((IntegrityError, SourceBuildError)):
        unpack_archive(path, tmp_path / "out", "own")
        read_build_system(tmp_path / "out", "own")


# What builds a source


@pytest.mark.parametrize(
    ("files", "native"),
    [
        ({"pyproject.toml": '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"'}, False),
        ({"pyproject.toml": '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"'}, False),
        ({"pyproject.toml": '[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"'}, True),
        ({"setup.py": ""}, False),
        ({"setup.py": "", "src/quick.c": ""}, True),
        ({"setup.py": "", "src/quick.PYX": ""}, True),
        (
            {"pyproject.toml": '[build-system]\nrequires = ["hatch-cython"]\nbuild-backend = "hatchling.build"'},
            True,
        ),
    ],
)
def test_a_compiler_is_there_where_it_may_be_wanted(tmp_path: Path, files: dict[str, str], native: bool) -> None:
    assert read_build_system(write_package(tmp_path, files), "own").native is native


def test_without_a_build_system_it_is_setuptools(tmp_path: Path) -> None:
    system = read_build_system(write_package(tmp_path, {"setup.py": ""}), "own")
    assert (system.backend, system.requires) == ("setuptools.build_meta:__legacy__", ("setuptools>=40.8",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "neither a pyproject.toml nor a setup.py"),
        ("[build-system", "not valid TOML"),
        ("build-system = 1", "PEP 518"),
        ("[build-system]\nrequires = [1]", "PEP 518"),
        ("[build-system]\nrequires = []\nbuild-backend = 'x'\nbackend-path = ['../..']", "leads out"),
    ],
)
def test_what_says_nothing_of_its_build_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    write_package(tmp_path, {"pyproject.toml": text} if text is not None else {})
    with pytest.raises(SourceBuildError, match=message):
        read_build_system(tmp_path, "own")


# Lines of requirements


def source(text: str, directory: Path) -> Source | None:
    return source_of_line(Line("requirements.txt:1", text), directory, {"TOKEN": "s3cret"})


@pytest.mark.parametrize(
    ("text", "kind", "place", "revision", "name"),
    [
        ("git+https://example.org/a/b.git@v1#egg=Own_Name", "git", "https://example.org/a/b.git", "v1", "own-name"),
        ("own @ git+https://example.org/b@feature/x", "git", "https://example.org/b", "feature/x", "own"),
        ("own[a] @ git+ssh://git@example.org/b ; python_version > '3'", "git", "ssh://git@example.org/b", "", "own"),
        ("-e git+https://${TOKEN}@example.org/b@v1", "git", "https://s3cret@example.org/b", "v1", None),
        (
            "https://example.org/own-1.tar.gz#sha256=" + "a" * 64,
            "archive",
            "https://example.org/own-1.tar.gz",
            "",
            None,
        ),
    ],
)
def test_lines_that_name_a_source(
    tmp_path: Path, text: str, kind: str, place: str, revision: str, name: str | None
) -> None:
    found = source(text, tmp_path)
    assert found is not None
    assert (found.kind, found.place, found.revision, found.name) == (kind, place, revision, name)
    assert "s3cret" not in found.title + place_in_lock(found, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "own",
        "own==1.0",
        "own[extra]>=1; python_version > '3'",
        "./own-1-py3-none-any.whl",
        "own @ https://x/own-1-py3-none-any.whl",
    ],
)
def test_lines_that_name_none(tmp_path: Path, text: str) -> None:
    assert source(text, tmp_path) is None


def test_paths_are_relative_in_the_lock_wherever_they_lead(tmp_path: Path) -> None:
    write_package(tmp_path / "project", {"own/setup.py": ""})
    write_package(tmp_path / "beside", {"setup.py": ""})
    for text, place in (
        ("-e ./own[a,b]", "own"),
        ("../beside", "../beside"),
        ((tmp_path / "beside").as_uri(), "../beside"),
    ):
        found = source(text, tmp_path / "project")
        assert found is not None
        assert place_in_lock(found, tmp_path / "project") == place


@pytest.mark.parametrize("text", ["hg+https://example.org/x", "./nothing-here", "own @ file:///nothing/here"])
def test_sources_that_cannot_be_had_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(LockError, match=r"requirements\.txt:1"):
        source(text, tmp_path)


def test_zip_members_larger_than_they_say_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("own/file", bytes(100_000))
    content = buffer.getvalue().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path = tmp_path / "own.zip"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="own: "):
        unpack_archive(path, tmp_path / "out", "own")
