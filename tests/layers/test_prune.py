"""What is left out of a wheel, and what looks like it but must stay."""

from __future__ import annotations

import pytest

from lightship.layers.prune import RULES, pruned


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("scipy/linalg/tests/test_basic.py", "tests"),
        ("numpy/_core/tests/data/x.csv", "tests"),
        ("joblib/test/test_memory.py", "tests"),
        ("numpy/__init__.pyi", "stubs"),
        ("numpy/_core/include/numpy/arrayobject.h", "headers"),
        ("scipy/linalg/cython_blas.pxd", "headers"),
        ("sklearn/tree/_tree.pyx", "cython sources"),
        ("numpy/_core/lib/libnpymath.a", "static libraries"),
        ("torch/bin/protoc", "torch programs"),
        ("setuptools/cli-arm64.exe", "windows launchers"),
        ("torch/test/test_api", "torch programs"),
        ("demo/__pycache__/x.cpython-311.pyc", "bytecode"),
    ],
)
def test_is_left_out(path: str, rule: str) -> None:
    found = pruned(path, "safe")
    assert found is not None and found.name == rule and found.reason
    assert pruned(path, "none") is None


@pytest.mark.parametrize(
    "path",
    [
        "numpy/testing/__init__.py",  # scipy imports it
        "torch/testing/__init__.py",  # torch imports it
        "torchgen/model.py",
        "torch/bin/torch_shm_manager",  # torch starts it
        "torch/include/ATen/ATen.h",  # torch.compile reads it
        "tests/__init__.py",  # a package of its own, which somebody may import
        "test.py",
        "django/test/client.py",  # a public interface
        "demo/test_client.py",
        "demo/latest/x.py",
        "demo-1.0.dist-info/tests/LICENSE",
        "demo-1.0.dist-info/licenses/x.h",
        "demo/py.typed",
        "skimage/__init__.pyi",  # lazy_loader reads it at import
    ],
)
def test_stays(path: str) -> None:
    assert pruned(path, "safe") is None


@pytest.mark.parametrize(
    "path",
    [
        "torch/include/ATen/ATen.h",
        "torch/utils/benchmark/utils/valgrind_wrapper/valgrind.h",
        "torchgen/packaged/ATen/native/native_functions.yaml",
    ],
)
def test_what_a_compiler_reads_goes_where_there_is_none(path: str) -> None:
    found = pruned(path, "safe", compiles=False)
    assert found is not None and found.name == "torch headers"
    assert pruned(path, "safe", compiles=True) is None


def test_every_rule_says_why() -> None:
    assert all(rule.name and rule.reason for rule in RULES)
