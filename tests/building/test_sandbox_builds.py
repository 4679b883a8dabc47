"""Sources of every kind become wheels, in the sandbox and nowhere else."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from loopback_server import LoopbackServer
from package_index import PackageIndex, make_wheel, sha256_of
from source_packages import commit, package_files, write_package, write_sdist
from workshop import Workshop

from lightship.building.failure import SourceBuildError
from lightship.errors import LockError
from lightship.lock import LockedWheel, RequirementsSource, Target, resolve

pytestmark = pytest.mark.network
Unique = Callable[[str], str]


def content(workshop: Workshop, wheel: LockedWheel, path: str) -> str:
    with zipfile.ZipFile(workshop.session.cache.blob_path(f"sha256:{wheel.sha256}")) as archive:
        return archive.read(path).decode()


def forgotten(workshop: Workshop, wheel: LockedWheel) -> None:
    workshop.session.cache.blob_path(f"sha256:{wheel.sha256}").unlink()


def test_a_package_that_is_source_only_is_built_with_what_it_requires(
    workshop: Workshop, index: PackageIndex, unique: Unique
) -> None:
    files = package_files("onlysource", "2.0", code=unique("VALUE = 7\n"), requires=["dep>=1"])
    sdist = write_sdist(index.folder, "onlysource", files, "2.0")
    index.wheel("dep")
    index.wheel("front", requires=["onlysource>=1.5"])
    locked = workshop.lock_text("front\n")
    assert sorted(locked) == ["dep", "front", "onlysource"]
    built = locked["onlysource"]
    assert built.source is not None
    assert (built.source.kind, built.source.place, built.version) == ("sdist", "", "2.0")
    assert "VALUE = 7" in content(workshop, built, "onlysource/__init__.py")
    assert locked["dep"].source is None
    assert built.source.sha256 == sha256_of(sdist)


def test_wheels_are_taken_where_there_are_any(workshop: Workshop, index: PackageIndex) -> None:
    index.wheel("both", "1.0")
    write_sdist(index.folder, "both", package_files("both", "2.0", during="raise SystemExit"), "2.0")
    assert workshop.lock_text("both\n")["both"].version == "1.0"


def test_a_newer_sdist_is_built_where_the_requirements_leave_nothing_else(
    workshop: Workshop, index: PackageIndex, unique: Unique
) -> None:
    index.wheel("both", "1.0")
    index.wheel("both", "3.0", tag="cp39-cp39-win_amd64")
    write_sdist(index.folder, "both", package_files("both", "2.0", code=unique("")), "2.0")
    write_sdist(index.folder, "other", package_files("other", "1.0", code=unique(""), requires=["both>=2"]), "1.0")
    locked = workshop.lock_text("both>=1.5,<3\nother\n")
    assert {name: (wheel.version, wheel.source is not None) for name, wheel in locked.items()} == {
        "both": ("2.0", True),
        "other": ("1.0", True),
    }


def test_hashes_of_the_requirements_hold_for_sdists(workshop: Workshop, index: PackageIndex, unique: Unique) -> None:
    sdist = write_sdist(index.folder, "hashed", package_files("hashed", code=unique("")))
    line = "hashed==1.0 --hash=sha256:"
    assert "hashed" in workshop.lock_text(f"{line}{sha256_of(sdist)}\n")
    with pytest.raises(LockError, match="none of the hashes"):
        workshop.lock_text(f"{line}{'0' * 64}\n")


def test_a_version_that_is_locked_stays(workshop: Workshop, index: PackageIndex, unique: Unique) -> None:
    write_sdist(index.folder, "moving", package_files("moving", code=unique("")))
    first = workshop.lock_text("moving\n")["moving"]
    write_sdist(index.folder, "moving", package_files("moving", "1.1", code=unique("")), "1.1")
    refreshed = workshop.with_session(environ={**workshop.session.environ, "UV_NO_CACHE": "1"})
    assert refreshed.lock_text("moving\n", (first,))["moving"] == first
    assert refreshed.lock_text("moving\n")["moving"].version == "1.1"


def test_the_password_of_a_keyring_reaches_an_index_and_nothing_else(
    workshop: Workshop, index: PackageIndex, unique: Unique, tmp_path: Path
) -> None:
    index.login = ("ship", "k3yring")
    write_sdist(index.folder, "private", package_files("private", code=unique("")))
    program = tmp_path / "bin" / "keyring"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = get ] && [ "$3" = ship ] && echo k3yring\n')
    program.chmod(0o755)
    environ = {
        **workshop.session.environ,
        "PATH": f"{program.parent}:{workshop.session.environ['PATH']}",
        "UV_DEFAULT_INDEX": index.simple.replace("http://", "http://ship@"),
        "UV_KEYRING_PROVIDER": "subprocess",
    }
    wheel = workshop.with_session(environ=environ).lock_text("private\n")["private"]
    assert b"k3yring" not in msgspec.json.encode(wheel)


def test_build_requirements_are_locked_and_installed_for_the_build_alone(
    workshop: Workshop, index: PackageIndex, unique: Unique
) -> None:
    index.wheel("maker", "3.1")
    during = "import maker; assert maker.__version__ == '3.1'"
    files = package_files("made", code=unique(""), during=during, build_requires=["maker>=3"])
    write_sdist(index.folder, "made", files)
    locked = workshop.lock_text("made\n")
    assert list(locked) == ["made"]
    assert locked["made"].source is not None
    assert [(each.name, each.version) for each in locked["made"].source.build] == [("maker", "3.1")]


def test_what_a_backend_asks_for_besides_is_installed(
    workshop: Workshop, index: PackageIndex, unique: Unique
) -> None:
    index.wheel("plugin")
    files = package_files("asking", code=unique(""), during="import plugin")
    files["_build/own.py"] += "\ndef get_requires_for_build_wheel(settings):\n    return ['plugin>=1']\n"
    write_sdist(index.folder, "asking", files)
    source = workshop.lock_text("asking\n")["asking"].source
    assert source is not None
    assert [each.name for each in source.build] == ["plugin"]


def test_an_option_among_build_requirements_never_reaches_the_resolver(
    workshop: Workshop, index: PackageIndex, unique: Unique
) -> None:
    files = package_files("sly", code=unique(""), build_requires=["--index-url=http://127.0.0.1:1/simple"])
    write_sdist(index.folder, "sly", files)
    with pytest.raises(SourceBuildError, match="no requirement"):
        workshop.lock_text("sly\n")


@pytest.mark.parametrize("line", ["./own", "-e ./own", "-e own", "own-package @ {uri}", "--editable=./own"])
def test_a_folder_is_installed_as_it_is_now(workshop: Workshop, unique: Unique, line: str) -> None:
    folder = write_package(workshop.project / "own", package_files("own-package", code=unique("VALUE = 3\n")))
    locked = workshop.lock_text(line.format(uri=folder.as_uri()) + "\n")["own-package"]
    assert locked.source is not None
    assert (locked.source.kind, locked.source.place) == ("directory", "own")
    assert "VALUE = 3" in content(workshop, locked, "own_package/__init__.py")
    (folder / "own_package.py").write_text(unique("VALUE = 4\n"))
    again = workshop.lock_text(line.format(uri=folder.as_uri()) + "\n", (locked,))["own-package"]
    assert "VALUE = 4" in content(workshop, again, "own_package/__init__.py")


def test_the_project_itself_can_be_installed(workshop: Workshop, unique: Unique) -> None:
    write_package(workshop.project, package_files("whole", code=unique("VALUE = 5\n")))
    (workshop.project / "lightship.lock").write_text("not a part of it")
    locked = workshop.lock_text("-e .\n")["whole"]
    assert locked.source is not None
    assert locked.source.place == "."


def test_extras_and_markers_of_a_folder_count(workshop: Workshop, index: PackageIndex, unique: Unique) -> None:
    index.wheel("extra-one")
    requires = ["extra-one; extra == 'one'"]
    write_package(workshop.project / "own", package_files("own", code=unique(""), requires=requires))
    assert sorted(workshop.lock_text("./own\n")) == ["own"]
    assert sorted(workshop.lock_text("-e ./own[one]\n")) == ["extra-one", "own"]
    assert workshop.lock_text("./own ; python_version < '3'\n") == {}


def test_a_commit_of_a_repository_is_pinned_in_full(workshop: Workshop, unique: Unique, tmp_path: Path) -> None:
    repository = write_package(tmp_path / "repo", package_files("tracked", code=unique("VALUE = 1\n")))
    first = commit(repository)
    line = f"tracked @ git+{repository.as_uri()}@main\n"
    locked = workshop.lock_text(line)["tracked"]
    assert locked.source is not None
    assert (locked.source.kind, locked.source.commit, locked.source.sha256) == ("git", first, "")
    assert str(tmp_path) not in locked.source.place
    (repository / "tracked.py").write_text(unique("VALUE = 2\n"))
    second = commit(repository, "another")
    kept = workshop.lock_text(line, (locked,))["tracked"]
    assert kept == locked
    moved = workshop.lock_text(line)["tracked"].source
    assert moved is not None
    assert moved.commit == second


def test_a_package_in_a_repositorys_subdirectory_and_by_commit(
    workshop: Workshop, unique: Unique, tmp_path: Path
) -> None:
    write_package(tmp_path / "repo" / "python", package_files("deep", code=unique("VALUE = 1\n")))
    first = commit(tmp_path / "repo")
    url = (tmp_path / "repo").as_uri()
    locked = workshop.lock_text(f"git+{url}@{first}#subdirectory=python&egg=deep\n")["deep"]
    assert "VALUE = 1" in content(workshop, locked, "deep/__init__.py")
    with pytest.raises(LockError, match="no branch or tag 'missing'"):
        workshop.lock_text(f"git+{url}@missing#subdirectory=python\n")


def test_an_archive_by_url_is_pinned_by_its_hash(workshop: Workshop, unique: Unique, tmp_path: Path) -> None:
    sdist = write_sdist(tmp_path / "www", "fetched", package_files("fetched", code=unique("")))
    with LoopbackServer({"/fetched-1.0.tar.gz": sdist.read_bytes()}) as server:
        url = f"{server.url}/fetched-1.0.tar.gz"
        locked = workshop.lock_text(f"fetched @ {url.replace('http://', 'http://ship:secret@')}\n")["fetched"]
    assert locked.source is not None
    assert (locked.source.kind, locked.source.place, locked.source.sha256) == ("archive", url, sha256_of(sdist))


def test_uv_sources_of_a_pyproject_are_built(
    workshop: Workshop, unique: Unique, index: PackageIndex, tmp_path: Path
) -> None:
    index.wheel("plain")
    write_package(workshop.project / "libs" / "near", package_files("near", code=unique("")))
    write_package(tmp_path / "repo", package_files("far", code=unique("")))
    commit(tmp_path / "repo")
    path = workshop.project / "pyproject.toml"
    path.write_text(
        '[project]\nname = "app"\nversion = "1"\ndependencies = ["near", "far", "plain"]\n'
        '[tool.uv.sources]\nnear = { path = "libs/near", editable = true }\n'
        f'far = {{ git = "{(tmp_path / "repo").as_uri()}" }}\n'
    )
    locked = workshop.lock_source(RequirementsSource("pyproject", path))
    kinds = {name: wheel.source.kind if wheel.source else None for name, wheel in locked.items()}
    assert kinds == {"near": "directory", "far": "git", "plain": None}


def test_another_tools_lock_with_a_folder_and_an_sdist_is_built_as_it_is_locked(
    workshop: Workshop, unique: Unique, index: PackageIndex
) -> None:
    write_package(workshop.project / "near", package_files("near", code=unique("")))
    write_sdist(index.folder, "onlysource", package_files("onlysource", code=unique("")))
    sha256 = sha256_of(index.folder / "onlysource-1.0.tar.gz")
    path = workshop.project / "pylock.toml"
    path.write_text(
        'lock-version = "1.0"\ncreated-by = "tests"\n'
        '[[packages]]\nname = "near"\ndirectory = { path = "near" }\n'
        '[[packages]]\nname = "onlysource"\nversion = "1.0"\n'
        f'sdist = {{ url = "{index.url}/files/onlysource-1.0.tar.gz", hashes = {{ sha256 = "{sha256}" }} }}\n'
    )
    locked = workshop.lock_source(RequirementsSource("pylock", path))
    assert sorted(locked) == ["near", "onlysource"]
    assert all(wheel.source for wheel in locked.values())


def test_a_second_build_touches_nothing(workshop: Workshop, unique: Unique, index: PackageIndex) -> None:
    index.wheel("maker")
    write_package(workshop.project / "own", package_files("own", code=unique(""), build_requires=["maker"]))
    first = workshop.lock_text("./own\n")["own"]
    index.forget_requests()
    blob = workshop.session.cache.blob_path(f"sha256:{first.sha256}")
    before = blob.stat().st_mtime_ns
    assert workshop.lock_text("./own\n")["own"] == first
    assert blob.stat().st_mtime_ns == before
    assert [path for path in index.asked() if "maker" in path] == []


def test_a_locked_wheel_that_was_forgotten_is_built_again_byte_for_byte(
    workshop: Workshop, unique: Unique, index: PackageIndex
) -> None:
    index.wheel("maker", "1.0")
    write_sdist(index.folder, "lost", package_files("lost", code=unique(""), build_requires=["maker"]))
    wheel = workshop.lock_text("lost\n")["lost"]
    forgotten(workshop, wheel)
    index.wheel("maker", "2.0")  # newer, but not what was locked
    workshop.builder(workshop.requirements("lost\n"), (wheel,)).rebuild_all([wheel])
    assert workshop.session.cache.has_blob(f"sha256:{wheel.sha256}", wheel.size)


def test_a_folder_elsewhere_becomes_the_same_wheel(workshop: Workshop, unique: Unique, tmp_path: Path) -> None:
    files = package_files("own", code=unique(""))
    write_package(workshop.project / "own", files)
    here = workshop.lock_text("./own\n")["own"]
    forgotten(workshop, here)
    (tmp_path / "elsewhere").mkdir()
    write_package(tmp_path / "elsewhere" / "own", files)
    there = replace(workshop, project=tmp_path / "elsewhere")
    assert there.lock_text("./own\n")["own"] == here


def test_a_pure_wheel_does_for_another_platform_and_native_code_is_refused(
    workshop: Workshop, unique: Unique
) -> None:
    write_package(workshop.project / "own", package_files("own", code=unique("")))
    here = workshop.lock_text("./own\n")["own"]
    foreign = replace(workshop.lock, architecture="arm64")
    source = workshop.requirements("./own\n")
    target = Target("3.11", "linux/arm64", (2, 36))
    builder = replace(workshop.builder(source, (here,)), target=target, base_lock=lambda: foreign)
    assert resolve(source, (), target, workshop.session, builder=builder) == (here,)
    native = msgspec.structs.replace(here, file="own-1.0-cp311-cp311-linux_x86_64.whl")
    with pytest.raises(SourceBuildError, match="would have to be built for linux/arm64"):
        resolve(source, (), target, workshop.session, builder=replace(builder, before=(native,)))


def test_a_source_that_is_not_what_is_locked_is_refused(workshop: Workshop, unique: Unique) -> None:
    folder = write_package(workshop.project / "own", package_files("own", code=unique("")))
    wheel = workshop.lock_text("./own\n")["own"]
    forgotten(workshop, wheel)
    (folder / "own.py").write_text("VALUE = 'changed'\n")
    with pytest.raises(SourceBuildError, match="not what is locked"):
        workshop.builder(workshop.requirements("./own\n"), (wheel,)).rebuild_all([wheel])


def test_a_build_that_is_not_reproducible_is_told_of(workshop: Workshop, unique: Unique) -> None:
    during = "open('own.py', 'a').write(os.urandom(8).hex().join(['V=\"', '\"']))"
    write_package(workshop.project / "own", package_files("own", code=unique(""), during=during))
    wheel = workshop.lock_text("./own\n")["own"]
    forgotten(workshop, wheel)
    with pytest.raises(SourceBuildError, match="not the one that is locked"):
        workshop.builder(workshop.requirements("./own\n"), (wheel,)).rebuild_all([wheel])


# What a backend may not do


def test_a_backend_has_no_network(workshop: Workshop, unique: Unique) -> None:
    with LoopbackServer({"/": b"hello"}) as server:
        during = f"import urllib.request; urllib.request.urlopen('{server.url}/', timeout=5)"
        write_package(workshop.project / "own", package_files("own", code=unique(""), during=during))
        with pytest.raises(SourceBuildError, match="own: its build backend own failed") as caught:
            workshop.lock_text("./own\n")
        assert server.requests == []
    assert "URLError" in caught.value.message


@pytest.mark.parametrize("place", ["/etc/left", "/opt/lightship/lib/left", "/left", "/tmp/../usr/left"])
def test_a_backend_cannot_write_outside_its_folder(workshop: Workshop, unique: Unique, place: str) -> None:
    during = f"open({place!r}, 'w')"
    write_package(workshop.project / "own", package_files("own", code=unique(""), during=during))
    with pytest.raises(SourceBuildError, match=r"Read-only file system|Permission denied"):
        workshop.lock_text("./own\n")


def test_a_backend_sees_nothing_of_this_machine(workshop: Workshop, unique: Unique, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    during = f"assert os.path.exists({str(tmp_path / 'secret')!r}), sorted(os.environ)"
    write_package(workshop.project / "own", package_files("own", code=unique(""), during=during))
    shop = workshop.with_session(environ={**workshop.session.environ, "API_TOKEN": "secret-token"})
    with pytest.raises(SourceBuildError, match="AssertionError") as caught:
        shop.lock_text("./own\n")
    assert "API_TOKEN" not in caught.value.message
    assert "SOURCE_DATE_EPOCH" in caught.value.message


WHEEL = "own-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("during", "message"),
    [
        ("os.symlink('/etc/passwd', os.path.join(directory, NAME)); return NAME", "left no file own-1.0"),
        ("os.rmdir(directory); os.symlink('/etc', directory); return NAME", "left no file own-1.0"),
        ("os.mkfifo(os.path.join(directory, NAME)); return NAME", "something that is no file"),
        ("open(os.path.join(directory, NAME), 'w').write('x'); return NAME", "is no wheel"),
        ("return '../../' + NAME", "is no wheel"),
        ("return 'own-1.0-cp39-cp39-win32.whl'", "does not fit Python 3.11"),
        ("os.symlink('/etc/passwd', '../result.json'); os._exit(0)", "left no file result.json"),
        ("open('../result.json', 'w').write('[' * 9); os._exit(0)", "no JSON"),
        ("return NAME", "left no file own-1.0"),
    ],
)
def test_a_result_that_is_not_a_wheel_is_refused(
    workshop: Workshop, unique: Unique, during: str, message: str
) -> None:
    files = package_files("own", code=unique(""), during=during.replace("NAME", repr(WHEEL)))
    write_package(workshop.project / "own", files)
    with pytest.raises(SourceBuildError, match=message):
        workshop.lock_text("./own\n")


def test_a_broken_build_shows_what_the_backend_said_last(workshop: Workshop, unique: Unique) -> None:
    during = "print('compiling the frobnicator'); raise RuntimeError('no frobnicator here')"
    write_package(workshop.project / "own", package_files("own", code=unique(""), during=during))
    with pytest.raises(SourceBuildError, match="no frobnicator here") as caught:
        workshop.lock_text("./own\n")
    assert "compiling the frobnicator" in caught.value.message
    assert caught.value.hint is not None


def test_a_package_of_another_name_is_refused(workshop: Workshop, unique: Unique) -> None:
    write_package(workshop.project / "own", package_files("own", code=unique("")))
    with pytest.raises(SourceBuildError, match="asked for other, but what was built is own"):
        workshop.lock_text("other @ file:./own\n".replace("file:./own", (workshop.project / "own").as_uri()))


def test_a_build_requirement_that_nobody_has_is_told_with_whose_it_is(workshop: Workshop, unique: Unique) -> None:
    write_package(workshop.project / "own", package_files("own", code=unique(""), build_requires=["nowhere-to-be"]))
    with pytest.raises(LockError, match=r"own cannot be built.*\s.*nowhere-to-be"):
        workshop.lock_text("./own\n")


# Secrets, and no network at all


def test_credentials_of_an_index_are_in_no_lock_and_no_wheel(
    workshop: Workshop, index: PackageIndex, unique: Unique
) -> None:
    index.login = ("ship", "s3cret")
    index.wheel("maker")
    files = package_files("private", code=unique(""), build_requires=["maker"], during="print(dict(os.environ))")
    write_sdist(index.folder, "private", files)
    url = index.simple.replace("http://", "http://ship:s3cret@")
    shop = workshop.with_session(environ={**workshop.session.environ, "UV_DEFAULT_INDEX": url})
    wheel = shop.lock_text("private\n")["private"]
    text = msgspec.json.encode(wheel).decode()
    assert "s3cret" not in text
    assert "127.0.0.1" not in text
    kept = (path.read_text() for path in (shop.session.cache.root / "records").rglob("*.json"))
    assert not any("s3cret" in text for text in kept)
    assert b"s3cret" not in shop.session.cache.blob_path(f"sha256:{wheel.sha256}").read_bytes()


def test_a_folder_of_wheels_and_sdists_is_enough(workshop: Workshop, unique: Unique, tmp_path: Path) -> None:
    house = tmp_path / "wheelhouse"
    house.mkdir()
    make_wheel(house, "maker")
    make_wheel(house, "dep")
    files = package_files("housed", code=unique(""), requires=["dep"], build_requires=["maker"])
    write_sdist(house, "housed", files)
    environ = {key: value for key, value in workshop.session.environ.items() if key != "UV_DEFAULT_INDEX"}
    shop = workshop.with_session(environ=environ, offline=True)
    text = f"--no-index\n--find-links {house}\nhoused\n"
    locked = shop.lock_text(text)
    assert sorted(locked) == ["dep", "housed"]
    shutil.rmtree(tmp_path / "uv", ignore_errors=True)
    forgotten(shop, locked["housed"])
    shop.builder(shop.requirements(text), tuple(locked.values())).rebuild_all([locked["housed"]])
