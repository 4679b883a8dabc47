"""Bytecode for the image, made by the image's own interpreter.

Worker processes of the target interpreter, run through the base's own dynamic loader (no chroot, no namespaces),
read sources from standard input and answer with unchecked-hash .pyc files (PEP 552): they stay valid whatever the
files' times are, and are not compared with the source at import.
"""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from lightship.errors import LightshipError

# marshal marks objects that are referred to more than once, and which equal constants the compiler made one object
# depends on what it compiled before. A round through format 2, which has no such marks, makes every constant its own
# object; only names are shared (they are interned), with whatever else is alive. `hold` refers to all of them once
# more, so that each is marked, and written once for a file: the bytes depend on the source alone.
# The path is not in the bytes: where a module is imported, Python puts the path that it was found at into its code
# (`_fix_co_filename`). A path in each function would be 7 % of them (torch, transformers).
# The current directory is the user's project: a struct.py of theirs must not be what the worker imports.
_WORKER = """
import sys; sys.path[:] = [folder for folder in sys.path if folder]
import gc, importlib._bootstrap_external as external, importlib.util, marshal, struct
read, write, flush = sys.stdin.buffer.read, sys.stdout.buffer.write, sys.stdout.buffer.flush
if "%d.%d" % sys.version_info[:2] != sys.argv[1]:
    sys.exit("it is Python %s, not %s as the base says" % (sys.version.split()[0], sys.argv[1]))
sys.setrecursionlimit(5000)
gc.disable()
Code = type((lambda: 0).__code__)
def hold(code, extend):
    extend(code.co_names + code.co_varnames + code.co_cellvars + code.co_freevars)
    extend((code.co_name, code.co_filename, getattr(code, "co_qualname", "")))
    hold_all(code.co_consts, extend)
def hold_all(constants, extend):
    extend(constants)
    for constant in constants:
        if type(constant) is Code:
            hold(constant, extend)
        elif type(constant) in (tuple, frozenset):
            hold_all(constant, extend)
while len(head := read(8)) == 8:
    batch, at, answer = read(*struct.unpack("<Q", head)), 0, []
    while at < len(batch):
        path_size, source_size = struct.unpack_from("<IQ", batch, at)
        at += 12
        path = batch[at:at + path_size].decode("utf-8", "surrogateescape")
        at += path_size
        source = batch[at:at + source_size]
        at += source_size
        try:
            name = path.rpartition("/")[2]
            code = marshal.loads(marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=0), 2))
            hold(code, (held := []).extend)
            pyc = bytes(external._code_to_hash_pyc(code, importlib.util.source_hash(source), False))
        except (SyntaxError, ValueError, RecursionError, OverflowError, MemoryError):
            pyc = b""
        answer += struct.pack("<Q", len(pyc)), pyc
    answer = b"".join(answer)
    write(struct.pack("<Q", len(answer)) + answer)
    flush()
    gc.collect()
"""
# Sources go to a worker in batches of about this many bytes: the thread that talks to it has to get the interpreter's
# lock for every piece that passes, from threads that are busy compressing.
_BATCH = 1 << 19
_PIPE = 1 << 20  # bytes that a pipe may hold: what the kernel allows to everyone (fs.pipe-max-size)
_LOADERS = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}


class Compiler(Protocol):
    """Compiles sources to bytecode."""

    def compile(self, sources: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes | None]]:
        """Each path inside the image with its .pyc, in the order given; None for what is not valid Python.

        At most one batch per worker is under way, so memory stays at the size of a few files.
        """
        ...


@contextmanager
def interpreter_compiler(root: Path, interpreter_path: str, version: str, jobs: int) -> Iterator[Compiler]:
    """A compiler that runs the Python at `interpreter_path` of the unpacked root file system `root`.

    Raises LightshipError where that Python cannot run here (another architecture, say).
    """
    command, environment = _command(root, interpreter_path, version)
    workers = [_Worker(command, environment) for _ in range(max(1, jobs))]
    try:
        yield _Workers(workers)
    finally:
        for worker in workers:
            worker.close()


def bytecode_path(path: str, minor: str) -> str:
    """Where the bytecode of a source file lies (PEP 3147).

    >>> bytecode_path("a/b.py", "3.11")
    'a/__pycache__/b.cpython-311.pyc'
    """
    folder, _, name = path.rpartition("/")
    tagged = f"{name.removesuffix('.py')}.cpython-{minor.replace('.', '')}.pyc"
    return f"{folder}/__pycache__/{tagged}" if folder else f"__pycache__/{tagged}"


class _Workers:
    def __init__(self, workers: list[_Worker]) -> None:
        self._workers = workers

    def compile(self, sources: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes | None]]:
        under_way: deque[tuple[list[str], _Worker]] = deque()
        idle = deque(self._workers)
        for batch in _batches(sources):
            if not idle:
                paths, worker = under_way.popleft()
                results = worker.receive(len(paths))
                idle.append(worker)
                yield from zip(paths, results, strict=True)
            worker = idle.popleft()
            worker.send(batch)
            under_way.append(([path for path, _ in batch], worker))
        for paths, worker in under_way:
            yield from zip(paths, worker.receive(len(paths)), strict=True)


def _batches(sources: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch, size = [], 0
    for path, source in sources:
        batch.append((path, source))
        size += len(source)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Worker:
    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        # A file, because a pipe that nobody reads would stop a worker that has much to say.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                pipesize=_PIPE if sys.platform == "linux" else -1,
            )
        except OSError as error:
            self._complaints.close()
            raise LightshipError(f"Could not start the base's Python to compile bytecode: {error}.") from error

    def send(self, batch: list[tuple[str, bytes]]) -> None:
        parts = []
        for path, source in batch:
            name = path.encode("utf-8", "surrogateescape")
            parts += [struct.pack("<IQ", len(name), len(source)), name, source]
        content = b"".join(parts)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack("<Q", len(content)) + content)
            self._process.stdin.flush()
        except OSError:
            self._fail()

    def receive(self, count: int) -> list[bytes | None]:
        """The answers to a batch of so many sources."""
        (size,) = struct.unpack("<Q", self._read(8))
        answer = self._read(size)
        results: list[bytes | None] = []
        at = 0
        for _ in range(count):
            (size,) = struct.unpack_from("<Q", answer, at)
            results.append(answer[at + 8 : at + 8 + size] or None)
            at += 8 + size
        return results

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            if pipe:
                with suppress(OSError):  # what was not yet sent to a worker that died
                    pipe.close()
        self._process.kill()
        self._process.wait()

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            self._fail()
        return data

    def _fail(self) -> None:
        self._process.kill()
        self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read(4000).decode("utf-8", "replace").strip()
        raise LightshipError(f"The base's Python stopped while it compiled bytecode: {said or 'it was killed'}.")


def _command(root: Path, interpreter_path: str, version: str) -> tuple[list[str], dict[str, str]]:
    """How to run the base's Python from outside: by its own loader, with its own libraries and standard library."""
    minor = ".".join(version.split(".")[:2])
    # -S and -s: no site-packages, the user's least of all; -E cannot be used because it would hide PYTHONHOME.
    arguments = ["-S", "-s", "-B", "-W", "ignore", "-X", "utf8", "-c", _WORKER, minor]
    clean = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    machine = platform.machine()
    loader = root / _LOADERS.get(machine, "no-such-machine")
    if sys.platform == "linux" and loader.is_file():
        home = str(root / Path(interpreter_path.lstrip("/")).parent.parent)
        triplet = f"{machine}-linux-gnu"
        folders = ("usr/local/lib", f"lib/{triplet}", f"usr/lib/{triplet}", "lib", "usr/lib")
        libraries = ":".join(str(root / folder) for folder in folders)
        interpreter = str(root / interpreter_path.lstrip("/"))
        return (
            [str(loader), "--library-path", libraries, "--argv0", interpreter, interpreter, *arguments],
            {**clean, "PYTHONHOME": home},
        )
    if f"{sys.version_info.major}.{sys.version_info.minor}" == minor:
        return [sys.executable, "-I", *arguments], clean
    raise LightshipError(
        f"Cannot compile bytecode for Python {minor} of another processor here.",
        hint=f"Run Lightship with Python {minor}.",
    )
