"""What a server never opens, and why: the rules by which files of a wheel are left out.

Levels `used` and `traced` leave out more than these rules: what an observed run never touched (pruning.py).

Level `safe` is meant to be invisible: its rules name files that no import and no inference opens. What stays on
purpose: `testing` packages (scipy imports numpy.testing), `torch/testing` and `torchgen` (torch imports them itself),
`torch/bin/torch_shm_manager` (torch starts it), `torch/include` where the base may have a compiler (torch.compile
hands it over), and everything in `.dist-info` (scanners and importlib.metadata read it).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

VERSION = 5
NEVER_OPENED = "never opened"  # in place of a rule's name: left out because an observed run did without
SYMBOLS = "symbols"  # likewise: parts of programs and libraries that nothing loads (layers/symbols.py)
Level = Literal["safe", "none"]


@dataclass(frozen=True)
class Rule:
    """One rule: paths that match are left out, unless they match `but`.

    `for_compilers`: what matches is read by a compiler in the image, and stays where there may be one.
    """

    name: str
    pattern: re.Pattern[str]
    reason: str
    but: re.Pattern[str] | None = None
    for_compilers: bool = False

    def matches(self, path: str) -> bool:
        return bool(self.pattern.search(path)) and not (self.but and self.but.search(path))


# A `tests` folder is left out only inside another package: a top-level `tests` may be what a user imports. A folder
# `test` may be a public interface (django.test), so only those that are known are left out.
BYTECODE = Rule("bytecode", re.compile(r"\.py[co]$"), "compiled anew for the image's Python")
RULES = (
    BYTECODE,
    Rule(
        "tests",
        re.compile(r"^[^/]+/(?:.+/)?tests/|^joblib/test/"),
        "test suites inside packages",
        # `test` modules that are part of a public interface, and packages whose tests are imported by others.
        but=re.compile(
            r"^(?:torch/(?:_|utils|testing|test/)|tensorflow|jax|sympy/testing|distributed/|pandas/_testing|ray/)"
        ),
    ),
    Rule(
        "stubs", re.compile(r"\.pyi$"), "for type checkers only", but=re.compile(r"/lazy_loader/|^skimage/|^librosa/")
    ),
    Rule(
        "headers",
        re.compile(r"\.(?:h|hh|hpp|hxx|cuh|pxd|pxi)$"),
        "for compiling extensions only",
        but=re.compile(r"^(?:torch|torchgen|triton|tensorflow|numba|cupy|jaxlib|pythran|llvmlite)/"),
    ),
    Rule("static libraries", re.compile(r"\.(?:a|lib)$"), "for linking only", but=re.compile(r"^(?:triton|numba)/")),
    Rule("cython sources", re.compile(r"\.pyx(?:\.tp)?$"), "compiled into the extension beside them"),
    Rule("windows launchers", re.compile(r"^(?:setuptools|distlib)/[^/]+\.exe$"), "programs of another system"),
    Rule(
        "torch headers",
        re.compile(
            r"^torch/(?:include|share/cmake)/|^torch/utils/benchmark/utils/valgrind_wrapper/.+\.h$"
            r"|^torchgen/packaged/"  # templates and tables of generated C++; torch imports other parts of torchgen
        ),
        "for torch.compile's C++ and for extensions, which a compiler builds",
        for_compilers=True,
    ),
    Rule(
        "torch programs",
        re.compile(r"^torch/(?:test|bin)/|^torch/lib/lib(?:torchbind|jitbackend)_test\.so$"),
        "C++ tests and protoc",
        but=re.compile("torch_shm_"),
    ),
)


def pruned(path: str, level: Level, *, compiles: bool = True) -> Rule | None:
    """The rule that leaves out `path` (relative to site-packages), or None where it stays.

    `compiles`: the image may have a compiler of native code.
    """
    top = path.partition("/")[0]
    if level == "none" or top.endswith(".dist-info"):
        return None
    return next((rule for rule in RULES if rule.matches(path) and not (compiles and rule.for_compilers)), None)


# Licences travel with the code wherever they lie, and .dist-info is what scanners and importlib.metadata read. torch
# asks at its start whether its shared memory manager exists, and opens it only where processes share tensors.
_ALWAYS = re.compile(
    r"^[^/]+\.dist-info/|^torch/bin/torch_shm_manager$|(?:^|/)(?:LICEN[CS]ES?|COPYING|NOTICE|COPYRIGHT)(?:[-._][^/]*)?$",
    re.IGNORECASE,
)


def always_kept(path: str) -> bool:
    """Whether a file, as RECORD names it, comes along with a distribution of which anything is kept.

    >>> always_kept("numpy/LICENSE.txt"), always_kept("numpy/license.py")
    (True, False)
    """
    return bool(_ALWAYS.search(path)) and not path.endswith((".py", ".so"))


def kept_paths(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a file, as RECORD names it, matches one of the user's patterns; `*` matches slashes as well.

    >>> kept_paths(["numpy/data/*"])("numpy/data/deep/er.bin")
    True
    """
    if not patterns:
        return lambda path: False
    matcher = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))
    return lambda path: bool(matcher.match(path))
