"""Which sources of a wheel are worth compiling: a server imports a quarter of what PyTorch and transformers bring.

What is left without bytecode still works, and is compiled when it is imported: at every start, because a container
cannot write beside its code. So these rules name only what no start imports (measured with the levels that observe a
run), or of which a start imports next to nothing: one model out of a registry of hundreds takes 10 ms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection

VERSION = 1
REGISTRY = 100  # packages side by side, from which on nobody imports them all: transformers/models has 460
# Benchmarks and test suites beside the code (of torch/testing/_internal, torch imports five at its start), what
# builds and installs packages, commands, and subjects that their packages import only when they are named.
_NO_START = re.compile(
    r"^[^/]+/(?:.+/)?benchmarks/"
    r"|^torch/testing/_internal/(?!(?:__init__|common_dtype|logging_tensor|distributed/(?:__init__|fake_pg))\.py$)"
    r"|^pip/|^setuptools/(?:_vendor|command|config)/|^numpy/(?:distutils|f2py)/|^torch/utils/(?:hipify|benchmark)/"
    r"|^(?:huggingface_hub|transformers)/cli/|^torchgen/packaged/|^torch/_vendor/quack/"
    r"|^pygments/lexers/(?!(?:__init__|_mapping)\.py$)|^sympy/(?:physics|stats|testing|parsing/(?:autolev|latex))/"
)
# The compiler behind torch.compile is imported when the first function is compiled, and then needs one of C++. What
# is excepted are parts that torch imports at its start.
_COMPILER = re.compile(
    r"^torch/_inductor/(?!(?:__init__|_functionalize_collectives|config|cpp_builder|cpu_vec_isa|cudagraph_utils"
    r"|custom_graph_pass|exc|metrics|standalone_compile|test_operators|utils|virtualized|(?:analysis|runtime)/.*)\.py$)"
)


def worth_compiling(sources: Collection[str], *, compiles: bool) -> Callable[[str], bool]:
    """Whether a source gets bytecode. It depends on the wheel alone, so that equal wheels make equal layers.

    Args:
        sources: The paths of all sources of the wheel, relative to site-packages.
        compiles: Whether the image may have a compiler of native code.

    >>> choose = worth_compiling([f"zoo/animals/animal{n}/__init__.py" for n in range(100)], compiles=False)
    >>> choose("zoo/animals/__init__.py"), choose("zoo/animals/animal7/eats.py")
    (True, False)
    """
    found = _registries(sources)

    def choose(path: str) -> bool:
        if _NO_START.search(path) or (not compiles and _COMPILER.search(path)):
            return False
        return not any(path.startswith(folder) and "/" in path[len(folder) :] for folder in found)

    return choose


def _registries(sources: Collection[str]) -> list[str]:
    """Folders of so many packages, each with a slash at its end."""
    beside = Counter(
        folder[: folder.rfind("/") + 1]
        for path in sources
        if path.endswith("/__init__.py") and "/" in (folder := path.removesuffix("/__init__.py"))
    )
    return sorted(folder for folder, packages in beside.items() if packages >= REGISTRY)
