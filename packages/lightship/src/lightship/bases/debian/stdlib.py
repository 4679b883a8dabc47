"""The standard library's bytecode, which the postinst of python3.x-minimal would compile.

Without it every start of the image would compile what it imports: a user that is not root cannot keep the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lightship.bases.debian.filesystem import RootFileSystem
from lightship.bases.debian.lock import DebianLock
from lightship.layers.bytecode import bytecode_path, interpreter_compiler

# Also python3/dist-packages, where Python packages of Debian's are, if `[base] packages` brings some.
_SOURCE = re.compile(r"usr/lib/python3(?:\.[0-9]+)?/.+\.py")


def compile_standard_library(tree: RootFileSystem, lock: DebianLock, compiler_root: Path, jobs: int) -> None:
    """Add a .pyc for every source of the tree, compiled by the Python in `compiler_root`."""
    paths = [path for path in sorted(tree.entries) if _SOURCE.fullmatch(path) and _is_file(tree, path)]
    if not paths:
        return
    minor = ".".join(lock.python_version.split(".")[:2])
    with interpreter_compiler(compiler_root, lock.interpreter_path, lock.python_version, jobs) as compiler:
        for path, bytecode in compiler.compile(_sources(tree, paths)):
            if bytecode is not None:
                tree.add_file(bytecode_path(path.lstrip("/"), minor), [bytecode])


def _sources(tree: RootFileSystem, paths: list[str]) -> Iterator[tuple[str, bytes]]:
    """With the absolute path that tracebacks will show."""
    return ((f"/{path}", tree.read(path)) for path in paths)


def _is_file(tree: RootFileSystem, path: str) -> bool:
    """Links are left out: sitecustomize.py leads to /etc, where a later layer may change it."""
    return tree.entries[path].kind in ("file", "hardlink")
