"""Which sources get bytecode: what a start may import, and exactly what was imported where a run was observed."""

from __future__ import annotations

import io
import platform
import sys
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from wheel_factory import make_wheel, source_of

from lightship.layers import TarWriter
from lightship.layers.bytecode import bytecode_path, interpreter_compiler
from lightship.layers.bytecode_choice import REGISTRY, worth_compiling
from lightship.layers.environment import Environment
from lightship.layers.installed_wheel import WheelSource
from lightship.layers.prune import Level, pruned
from lightship.layers.wheels import WheelsRecipe

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
ENVIRONMENT = Environment(f"/usr/bin/python{MINOR}", platform.python_version())
ZOO = {f"zoo/animals/a{number}/{name}.py": b"x = 1\n" for number in range(REGISTRY) for name in ("__init__", "eats")}
FILES = {"zoo/__init__.py": b"y = 2\n", "zoo/animals/__init__.py": b"", "zoo/keeper.py": b"z = 3\n", **ZOO}


def compiled(wheel: WheelSource, level: Level = "safe") -> set[str]:
    """The sources in the layer of a wheel that have bytecode, relative to site-packages."""
    compiler = partial(interpreter_compiler, Path("/nonexistent"), "/usr/bin/python", platform.python_version(), 1)
    out = io.BytesIO()
    writer = TarWriter(out)
    WheelsRecipe((wheel,), ENVIRONMENT, level, compiler).write(writer)
    writer.close()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        names = {name.removeprefix(f"{ENVIRONMENT.site_packages}/") for name in tar.getnames()}
    return {name for name in names if name.endswith(".py") and bytecode_path(name, MINOR) in names}


@pytest.fixture
def zoo(tmp_path: Path) -> WheelSource:
    return source_of(make_wheel(tmp_path, "zoo", files=FILES))


def test_members_of_a_registry_have_none_and_what_lies_around_it_has(zoo: WheelSource) -> None:
    assert compiled(zoo) == FILES.keys() - ZOO.keys()
    assert compiled(replace(zoo, keep=("zoo/animals/a7/*",))) >= {"zoo/animals/a7/eats.py"}


def test_everything_has_some_where_nothing_is_pruned_and_where_a_run_is_observed(zoo: WheelSource) -> None:
    assert compiled(zoo, "none") == FILES.keys()
    assert compiled(replace(zoo, compiled=True)) == FILES.keys()


def test_after_an_observed_run_what_was_imported_has_some_and_what_was_read_has_none(zoo: WheelSource) -> None:
    only = frozenset({bytecode_path("zoo/animals/a7/eats.py", MINOR), "zoo/keeper.py"})
    assert compiled(replace(zoo, only=only)) == {"zoo/animals/a7/eats.py"}


def test_the_choice_is_part_of_what_is_installed(zoo: WheelSource) -> None:
    assert replace(zoo, compiled=True).identity != zoo.identity


@pytest.mark.parametrize(
    ("path", "without", "with_compiler"),
    [
        ("torch/_inductor/codegen/cpp.py", False, True),
        ("torch/_inductor/config.py", True, True),
        ("torch/testing/_internal/common_utils.py", False, False),
        ("torch/testing/_internal/common_dtype.py", True, True),
        ("torch/utils/benchmark/utils/timer.py", False, False),
        ("setuptools/__init__.py", True, True),
        ("setuptools/_distutils/version.py", True, True),
        ("pygments/lexers/python.py", False, False),
        ("benchmarks/own.py", True, True),
    ],
)
def test_what_no_start_imports(path: str, without: bool, with_compiler: bool) -> None:
    assert worth_compiling([path], compiles=False)(path) is without
    assert worth_compiling([path], compiles=True)(path) is with_compiler


def test_fewer_packages_side_by_side_are_no_registry() -> None:
    few = [path for path in ZOO if "/a0/" not in path]
    assert all(map(worth_compiling(few, compiles=False), few))


def test_headers_for_a_compiler_stay_where_there_may_be_one() -> None:
    header = "torch/include/torch/script.h"
    assert pruned(header, "safe", compiles=True) is None
    rule = pruned(header, "safe", compiles=False)
    assert rule is not None and rule.name == "torch headers"
