"""Wheels become layers as an installer would lay them out; a wheel that breaks the rules is refused by name."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wheel_factory import make_wheel, source_of

from lightship.cache import Cache
from lightship.errors import IntegrityError, LightshipError
from lightship.layers import Compression, TarWriter, materialise
from lightship.layers.bytecode import Compiler, bytecode_path, interpreter_compiler
from lightship.layers.environment import Environment
from lightship.layers.wheels import WheelsRecipe
from lightship.lock import RequirementsSource, Target, fetch_wheels, resolve
from lightship.session import Session

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
ENVIRONMENT = Environment(f"/usr/bin/python{MINOR}", platform.python_version())
SITE = ENVIRONMENT.site_packages


@contextmanager
def host_compiler() -> Iterator[Compiler]:
    """The byte compiler with this Python: an empty root has no loader, so the host's interpreter is taken."""
    with interpreter_compiler(Path("/nonexistent"), "/usr/bin/python", platform.python_version(), 1) as compiler:
        yield compiler


def recipe(*wheels: Path, prune: str = "safe", bytecode: bool = True) -> WheelsRecipe:
    compiler = host_compiler if bytecode else None
    return WheelsRecipe(tuple(map(source_of, wheels)), ENVIRONMENT, prune, compiler)  # type: ignore[arg-type]


def tar_of(made: WheelsRecipe) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    out = io.BytesIO()
    writer = TarWriter(out)
    made.write(writer)
    writer.close()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return {m.name: (m, tar.extractfile(m).read() if m.isfile() else b"") for m in tar}  # type: ignore[union-attr]


def extract(made: WheelsRecipe, target: Path) -> Path:
    for name, (member, content) in tar_of(made).items():
        path = target / name
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(content)
            path.chmod(member.mode)
    return target / SITE


def test_a_wheel_lies_as_an_installer_lays_it(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": b"def main():\n    print('hello')\n",
        "demo/data.bin": bytes(range(256)),
        "demo-1.0.data/scripts/old-style": b"#!python\nprint('old')\n",
        "demo-1.0.data/purelib/extra.py": b"e = 1\n",
        "demo-1.0.data/data/share/demo/note.txt": b"note",
        "demo-1.0.data/headers/demo.h": b"#define DEMO\n",
    }
    entry_points = {"entry_points.txt": b"[console_scripts]\ndemo = demo:main\n"}
    wheel = make_wheel(tmp_path, files=files, metadata=entry_points)
    members = tar_of(recipe(wheel, bytecode=False))
    assert members[f"{SITE}/demo/data.bin"][1] == bytes(range(256))
    assert members["opt/lightship/bin/old-style"][1] == b"#!/opt/lightship/bin/python\nprint('old')\n"
    assert members["opt/lightship/bin/old-style"][0].mode == 0o755
    assert members["opt/lightship/bin/demo"][1].startswith(b"#!/opt/lightship/bin/python\n")
    assert members["opt/lightship/share/demo/note.txt"][1] == b"note"
    assert members[f"opt/lightship/include/site/python{MINOR}/demo/demo.h"][1] == b"#define DEMO\n"
    assert f"{SITE}/extra.py" in members
    assert members[f"{SITE}/demo-1.0.dist-info/INSTALLER"][1] == b"lightship\n"


def test_record_lists_what_was_really_installed(tmp_path: Path) -> None:
    entry_points = {"entry_points.txt": b"[console_scripts]\ndemo = demo:main\n"}
    wheel = make_wheel(tmp_path, files={"demo/__init__.py": b"x=1\n", "demo/tests/t.py": b""}, metadata=entry_points)
    members = tar_of(recipe(wheel))
    record = members[f"{SITE}/demo-1.0.dist-info/RECORD"][1].decode().splitlines()
    listed = {row.split(",")[0]: row for row in record}
    installed = {os.path.relpath("/" + name, "/" + SITE) for name, (member, _) in members.items() if member.isfile()}
    assert set(listed) == installed
    assert "../../../bin/demo" in listed
    assert "demo/tests/t.py" not in listed
    digest = hashlib.sha256(members[f"{SITE}/demo/__init__.py"][1]).digest()
    import base64

    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() in listed["demo/__init__.py"]


@pytest.mark.network
def test_the_files_are_those_that_uv_installs(tmp_path: Path, session: Session) -> None:
    names = ("click==8.1.8", "joblib==1.5.2", "pyyaml==6.0.3")
    target = Target(MINOR)
    locked = resolve(RequirementsSource("list", tmp_path, names), (), target, session)
    paths = fetch_wheels(locked, session, target)
    wheels = []
    for wheel in locked:
        (tmp_path / wheel.file).symlink_to(paths[wheel.sha256])
        wheels.append(tmp_path / wheel.file)
    site = extract(recipe(*wheels, prune="none", bytecode=False), tmp_path / "ours")
    theirs = tmp_path / "theirs"
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--target", str(theirs)]
    subprocess.run([*command, *map(str, wheels)], check=True)
    assert files_below(site) == files_below(theirs)


def files_below(site: Path) -> dict[str, tuple[bytes, bool]]:
    """Every installed file but those in which installers differ."""
    own = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", ".lock", "__editable__")
    return {
        path.relative_to(site).as_posix(): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in site.rglob("*")
        if path.is_file() and path.name not in own and path.parts[len(site.parts)] != "bin"
    }


def test_installed_code_runs_from_its_bytecode(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, files={"demo/__init__.py": b"value = 42\ndef f():\n    pass\n", "demo/bad.py": b"print 'two'\n"}
    )
    site = extract(recipe(wheel), tmp_path / "root")
    compiled = site / "demo" / "__pycache__" / f"__init__.cpython-{MINOR.replace('.', '')}.pyc"
    assert compiled.read_bytes()[4:8] == b"\1\0\0\0"  # PEP 552: hash-based, not checked
    assert not (site / "demo" / "__pycache__" / f"bad.cpython-{MINOR.replace('.', '')}.pyc").exists()
    (site / "demo" / "__init__.py").write_text("value = 'the source was read'\n")
    code = "import demo; print(demo.value, demo.f.__code__.co_filename)"  # the file name is that of where it is found
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == f"42 {site}/demo/__init__.py\n"


def test_the_layer_is_what_it_always_was(tmp_path: Path) -> None:
    # Golden: a change here changes every digest that users have published; raise the recipe's VERSION with it.
    wheel = make_wheel(tmp_path, files={"demo/__init__.py": b"x = 1\n", "demo/run": b"#!/bin/sh\n"},
                       executable=("demo/run",))  # fmt: skip
    made = WheelsRecipe((source_of(wheel),), Environment("/usr/bin/python3.11", "3.11.2"), "safe", None)
    layer = materialise(made, Cache(tmp_path / "cache"), Compression.NONE)
    assert layer.diff_id == "sha256:6a53dc57f4a2842ac890a807f4b94f5b17b37516ad59a51dbe27845aa71c2534"


def test_the_order_in_which_wheels_are_named_does_not_matter(tmp_path: Path) -> None:
    one, two = make_wheel(tmp_path, "one"), make_wheel(tmp_path, "two")
    assert recipe(one, two).key == recipe(two, one).key
    assert list(tar_of(recipe(one, two, bytecode=False))) == list(tar_of(recipe(two, one, bytecode=False)))


def test_of_two_wheels_with_one_path_the_later_wins(tmp_path: Path) -> None:
    shared = "shared/__init__.py"
    one = make_wheel(tmp_path, "aaa", files={shared: b"one = 1\n", "aaa.py": b""})
    two = make_wheel(tmp_path, "bbb", files={shared: b"two = 2\n", "bbb.py": b""})
    assert tar_of(recipe(one, two, bytecode=False))[f"{SITE}/{shared}"][1] == b"two = 2\n"


def refused(path: Path, match: str) -> None:
    with pytest.raises(IntegrityError, match=match) as caught:
        tar_of(recipe(path, bytecode=False))
    assert path.name in caught.value.message
    assert caught.value.hint


def test_a_wheel_whose_record_is_wrong_is_refused(tmp_path: Path) -> None:
    wrong = {"demo/__init__.py": "sha256=" + "A" * 43}
    refused(make_wheel(tmp_path, recorded=wrong), "another hash than its RECORD")


def test_a_wheel_with_a_weak_hash_is_refused(tmp_path: Path) -> None:
    refused(make_wheel(tmp_path, recorded={"demo/__init__.py": "md5=abc"}), "unsafe hash")


@pytest.mark.parametrize("path", ["../evil.py", "/etc/cron.d/evil", "demo/../../evil.py", "demo//x.py", "./x.py"])
def test_a_wheel_with_a_path_outside_is_refused(tmp_path: Path, path: str) -> None:
    refused(make_wheel(tmp_path, files={path: b"evil"}), "leaves its folder")


def test_a_wheel_with_a_backslash_is_refused(tmp_path: Path) -> None:
    refused(make_wheel(tmp_path, files={"demo\\evil.py": b"evil"}), "backslash")


def test_a_wheel_with_a_link_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive:
        entry = zipfile.ZipInfo("demo/link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    refused(wheel, "a link")


def test_a_script_whose_name_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    points = {"entry_points.txt": b"[console_scripts]\n../../usr/bin/evil = demo:main\n"}
    refused(make_wheel(tmp_path, metadata=points), "script with the name")


@pytest.mark.parametrize(
    "content", [b"[console_scripts\n", b"[console_scripts]\nx = not a reference!\n", b"\xff\xfe"]
)
def test_unreadable_entry_points_are_named(tmp_path: Path, content: bytes) -> None:
    refused(make_wheel(tmp_path, metadata={"entry_points.txt": content}), "entry points")


def test_a_truncated_wheel_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo/a.bin": os.urandom(5000)})
    content = wheel.read_bytes()
    wheel.write_bytes(content[: len(content) // 2])
    refused(wheel, "not a readable zip")


def test_a_wheel_of_another_format_version_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, metadata={"WHEEL": b"Wheel-Version: 2.0\n"})
    refused(wheel, "format version")


def test_a_member_that_is_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo/bomb.bin": bytes(1 << 20)})
    content = bytearray(wheel.read_bytes())
    real, false = (1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")
    for position in (content.find(real), content.rfind(real)):
        content[position : position + 4] = false
    wheel.write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match="bomb"):
        tar_of(recipe(wheel, bytecode=False))


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("demo/__init__.py", b"again")
    refused(wheel, "twice")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_wheel_gives_an_error_for_people(tmp_path: Path, data: st.DataObject) -> None:
    wheel = make_wheel(tmp_path, files={"demo/__init__.py": b"x = 1\n" * 50, "demo/b.bin": bytes(range(256))})
    content = bytearray(wheel.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    wheel.write_bytes(bytes(content))
    try:
        members = tar_of(recipe(wheel, bytecode=False))
    except LightshipError:
        return
    # What is let through is the content that was recorded: the damage hit a part that nothing reads.
    assert members[f"{SITE}/demo/__init__.py"][1] == b"x = 1\n" * 50


def test_bytecode_does_not_depend_on_what_was_compiled_before(tmp_path: Path) -> None:
    import email
    import json
    import xml

    files = [
        path
        for package in (email, json, xml)
        for path in Path(package.__file__).parent.rglob("*.py")  # type: ignore[arg-type]
    ]
    sources = [(f"/lib/{index}.py", path.read_bytes()) for index, path in enumerate(sorted(files))]
    results = []
    for order in (sources, sources[::-1], sources[::2] + sources[1::2]):
        with host_compiler() as compiler:
            results.append(dict(compiler.compile(order)))
    assert results[0] == results[1] == results[2]


def test_bytecode_is_where_python_looks(tmp_path: Path) -> None:
    import importlib.util

    path = bytecode_path("a/b.py", MINOR)
    assert path == importlib.util.cache_from_source("a/b.py")


def test_a_compiler_that_dies_is_told_of() -> None:
    with host_compiler() as compiler, pytest.raises(LightshipError, match="stopped while it compiled"):
        compiler._workers[0]._process.kill()  # type: ignore[attr-defined]
        list(compiler.compile([("/a.py", b"x = 1\n")]))
