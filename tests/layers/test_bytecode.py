"""Bytecode by a real interpreter, run by its own loader: this machine's root stands for an unpacked base."""

from __future__ import annotations

import importlib.util
import marshal
import os
import platform
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import CodeType

import pytest

from lightship.errors import LightshipError
from lightship.layers.bytecode import Compiler, bytecode_path, interpreter_compiler

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
# This interpreter stands for that of a base: the host's loader and libraries are found from /.
INTERPRETER = str(Path(sys.base_prefix) / "bin" / f"python{MINOR}").lstrip("/")
SITE = "/opt/lightship/lib/python3.11/site-packages"
Open = Callable[..., AbstractContextManager[Compiler]]


@pytest.fixture
def compiler() -> Open:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("starts a program by the loader of x86-64 Linux")
    return lambda jobs=1: interpreter_compiler(Path("/"), INTERPRETER, MINOR, jobs)


def workers() -> list[int]:
    """The processes that this test started and that still live."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def code(pyc: bytes | None) -> CodeType:
    assert pyc is not None
    loaded = marshal.loads(pyc[16:])
    assert isinstance(loaded, CodeType)
    return loaded


def test_a_pyc_is_unchecked_hash_and_names_no_folder(compiler: Open) -> None:
    source = b"answer = 6 * 7\n"
    with compiler() as opened:
        ((path, pyc),) = opened.compile([(f"{SITE}/a.py", source)])
    assert pyc is not None and path == f"{SITE}/a.py"
    assert pyc[:4] == importlib.util.MAGIC_NUMBER
    assert pyc[4:8] == (1).to_bytes(4, "little")  # PEP 552: by hash, not checked
    assert pyc[8:16] == importlib.util.source_hash(source)
    assert code(pyc).co_filename == "a.py"  # the path that it is found at is put there at import


def test_what_is_not_python_has_no_bytecode_and_order_is_kept(compiler: Open) -> None:
    sources = [("/a.py", b"a = 1"), ("/b.py", b"{{ jinja }} is not"), ("/c.py", b"print 'two'"), ("/d.py", b"\0")]
    sources += [("/e.py", b"# coding: no-such\n"), ("/f.py", "# coding: latin-1\nx = 'é'".encode("latin-1"))]
    with compiler(jobs=2) as opened:
        compiled = list(opened.compile(sources))
    assert [path for path, pyc in compiled if pyc] == ["/a.py", "/f.py"]
    assert [path for path, _ in compiled] == [path for path, _ in sources]


def test_the_bytes_depend_on_the_source_alone(compiler: Open) -> None:
    """Whatever was compiled before, by however many workers: real packages in shuffled orders."""
    packages = Path(str(importlib.util.find_spec("numpy").origin)).parent.parent  # type: ignore[union-attr]
    files = [path for name in ("numpy", "scipy") for path in sorted(packages.joinpath(name).rglob("*.py"))[::6]]
    sources = [(f"/{path.relative_to(packages)}", path.read_bytes()) for path in files]
    # The first name that is not ASCII makes the compiler import unicodedata, whose names are known from then on.
    sources += [("/greek.py", "µ = 1".encode()), ("/names.py", b"decimal = numeric = 1\nclass A:\n class B: pass")]
    sources += [("/set.py", b"def f(x): return x in {'p', 'q'}\ndef g(x): return x in {'p', 'q'}")]
    results = []
    for seed, jobs in ((1, 1), (2, 2)):
        shuffled = random.Random(seed).sample(sources, len(sources))
        with compiler(jobs) as opened:
            results.append(dict(opened.compile(shuffled)))
    assert len(sources) > 100
    assert [path for path, _ in sources if results[0][path] != results[1][path]] == []


def test_sources_are_taken_as_they_are_needed(compiler: Open) -> None:
    taken = 0

    def sources() -> Iterator[tuple[str, bytes]]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield f"/{number}.py", b"x = 1" + b"#" * (1 << 18)  # two of them are a batch

    with compiler(jobs=2) as opened:
        compiled = opened.compile(sources())
        next(compiled)
        assert taken <= 6
        assert len(list(compiled)) == 99


@pytest.mark.parametrize("statement", [b"'\\d'", b"1 is 1"])
def test_warnings_of_a_source_never_stop_a_worker(compiler: Open, statement: bytes) -> None:
    """Thousands of SyntaxWarnings (Python 3.12 tells of every unknown escape) are more than a pipe holds."""
    source = b"".join(b"x%d = %s\n" % (number, statement) for number in range(5000))
    with compiler() as opened:
        ((_, pyc),) = opened.compile([("/loud.py", source)])
    assert pyc is not None


@pytest.mark.parametrize("module", ["struct", "types", "warnings", "marshal"])
def test_code_in_the_current_directory_is_never_run(
    compiler: Open, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "ran"
    (tmp_path / f"{module}.py").write_text(f"open({str(trace)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    with compiler() as opened:
        ((_, pyc),) = opened.compile([("/a.py", b"a = 1")])
    assert pyc is not None
    assert not trace.exists()


def test_the_callers_python_settings_do_not_show(compiler: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    source = [("/a.py", b"def f():\n    'documented'\n    assert f\n")]
    with compiler() as opened:
        expected = list(opened.compile(source))
    for name, value in (("PYTHONHASHSEED", "7"), ("PYTHONOPTIMIZE", "2"), ("PYTHONPATH", "/nowhere")):
        monkeypatch.setenv(name, value)
    with compiler() as opened:
        assert list(opened.compile(source)) == expected


def test_a_killed_worker_is_told_of_and_none_is_left(compiler: Open) -> None:
    def sources() -> Iterator[tuple[str, bytes]]:
        yield "/a.py", b"a = 1"
        os.kill(workers()[0], signal.SIGKILL)
        for number in range(10):
            yield f"/{number}.py", b"b = 1\n" * 10_000

    with pytest.raises(LightshipError, match="stopped while it compiled bytecode"):
        with compiler(jobs=2) as opened:
            list(opened.compile(sources()))
    assert workers() == []


def test_workers_end_when_the_builder_is_killed() -> None:
    program = f"""
import sys
from pathlib import Path
from lightship.layers.bytecode import interpreter_compiler
with interpreter_compiler(Path("/"), {INTERPRETER!r}, {MINOR!r}, 2) as compiler:
    print([worker._process.pid for worker in compiler._workers], flush=True)
    sys.stdin.read()
"""
    builder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert builder.stdin and builder.stdout
    pids = [int(pid) for pid in builder.stdout.readline().strip("[]\n").split(",")]
    builder.kill()
    builder.wait()
    builder.stdin.close()
    builder.stdout.close()
    assert len(pids) == 2
    for pid in pids:
        subprocess.run(["timeout", "20", "tail", "--pid", str(pid), "-f", "/dev/null"], check=True)


def test_bytecode_lies_where_python_looks_for_it() -> None:
    assert bytecode_path("a/b.py", "3.11") == "a/__pycache__/b.cpython-311.pyc"
    assert bytecode_path("b.py", "3.13") == "__pycache__/b.cpython-313.pyc"


def test_a_python_of_another_version_than_the_base_says_is_refused() -> None:
    with (
        interpreter_compiler(Path("/"), INTERPRETER, "3.99.1", 1) as opened,
        pytest.raises(LightshipError, match=r"not 3\.99 as the base says"),
    ):
        list(opened.compile([("/a.py", b"x = 1\n")]))
