"""C code is compiled in the sandbox, by Debian's compiler, and what comes out runs on the image's Python."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from package_index import PackageIndex
from source_packages import package_files, write_package, write_sdist
from workshop import Workshop

from lightship.bases.debian import build_debian
from lightship.building.failure import SourceBuildError
from lightship.layers import Compression

pytestmark = pytest.mark.network

EXTENSION = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *ignored) {{ return PyLong_FromLong({value}); }}
static PyMethodDef methods[] = {{{{"answer", answer, METH_NOARGS, NULL}}, {{NULL}}}};
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "quick", NULL, -1, methods}};
PyMODINIT_FUNC PyInit_quick(void) {{ return PyModule_Create(&module); }}
"""
SETUP = """
from setuptools import Extension, setup
setup(name="quick", version="1.0", ext_modules=[Extension("quick", ["quick.c"])])
"""


@pytest.fixture
def with_real_index(workshop: Workshop) -> Workshop:
    """setuptools comes from the user's own index."""
    return workshop.with_session(environ=dict(os.environ))


def test_an_sdist_with_a_c_extension_is_compiled_and_runs(with_real_index: Workshop, tmp_path: Path) -> None:
    shop, house = with_real_index, tmp_path / "house"
    value = int.from_bytes(os.urandom(3), "big")
    files = {"quick.c": EXTENSION.format(value=value), "setup.py": SETUP}
    write_sdist(house, "quick", files)
    text = f"{house}/quick-1.0.tar.gz\n"
    wheel = shop.lock_text(text)["quick"]
    assert wheel.file == "quick-1.0-cp311-cp311-linux_x86_64.whl"
    assert wheel.source is not None
    assert "setuptools" in [each.name for each in wheel.source.build]
    blob = shop.session.cache.blob_path(f"sha256:{wheel.sha256}")
    with zipfile.ZipFile(blob) as archive:
        archive.extractall(tmp_path / "out")
    root = build_debian(shop.lock, shop.session, Compression.ZSTD).interpreter.root()
    python = [str(root / "usr/bin/python3.11"), "-I", "-S", "-c"]
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'out')!r}); import quick; print(quick.answer())"
    loader = [str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", f"{root}/lib/x86_64-linux-gnu"]
    done = subprocess.run(
        [*loader, *python, program],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONHOME": str(root / "usr")},
    )
    assert done.stdout.strip() == str(value), done.stderr

    blob.unlink()  # built anew, the compiler gives the same bytes
    shop.builder(shop.requirements(text), (wheel,)).rebuild_all([wheel])
    assert blob.is_file()


def test_code_that_does_not_compile_shows_the_compilers_words(with_real_index: Workshop) -> None:
    files = {"quick.c": "#include <no_such_library.h>\n", "setup.py": SETUP}
    write_package(with_real_index.project / "quick", files)
    with pytest.raises(SourceBuildError, match=r"no_such_library\.h: No such file") as caught:
        with_real_index.lock_text("./quick\n")
    assert "[base] packages" in (caught.value.hint or "")


def test_a_pure_backend_gets_no_compiler(
    workshop: Workshop, index: PackageIndex, unique: Callable[[str], str]
) -> None:
    """A backend that is known to only collect files; a wheel on the index stands in for it."""
    during = "import shutil; assert shutil.which('gcc') is None"
    files = package_files("collected", code=unique(""), during=during)
    files["pyproject.toml"] = files["pyproject.toml"].replace('"own"', '"hatchling_own"')
    files["_build/hatchling_own.py"] = files.pop("_build/own.py")
    write_sdist(index.folder, "collected", files)
    assert "collected" in workshop.lock_text("collected\n")
