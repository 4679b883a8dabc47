"""The layer with lightship-runtime: complete, importable from it alone, and the same each time."""

import base64
import csv
import hashlib
import importlib.metadata
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lightship_runtime
from lightship.layers.bytecode import interpreter_compiler
from lightship.layers.environment import Environment
from lightship.layers.runtime import RuntimeRecipe, runtime_requirements
from lightship.layers.tar import TarWriter

VERSION = ".".join(map(str, sys.version_info[:3]))
ENVIRONMENT = Environment("/usr/bin/python3", VERSION)


def _recipe(*, compiled: bool = True) -> RuntimeRecipe:
    root = Path("/no-such-root")  # so that the compiler takes this very interpreter
    compiler = lambda: interpreter_compiler(root, "/usr/bin/python3", VERSION, 1)  # noqa: E731
    return RuntimeRecipe(ENVIRONMENT, compiler if compiled else None)


def _written(recipe: RuntimeRecipe) -> bytes:
    out = io.BytesIO()
    tar = TarWriter(out)
    recipe.write(tar)
    tar.close()
    return out.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer's site-packages, unpacked."""
    root = tmp_path_factory.mktemp("layer")
    with tarfile.open(fileobj=io.BytesIO(_written(_recipe()))) as archive:
        archive.extractall(root, filter="data")
    return root / ENVIRONMENT.site_packages


def test_two_writes_give_the_same_bytes_and_key() -> None:
    assert _written(_recipe()) == _written(_recipe())
    assert _recipe().key == _recipe().key
    assert _recipe().key != _recipe(compiled=False).key


def test_the_key_depends_on_the_python() -> None:
    other = RuntimeRecipe(Environment("/usr/bin/python3", "3.13.5"), None)
    assert other.key != _recipe(compiled=False).key


def test_it_holds_the_package_and_nothing_else(site: Path) -> None:
    source = Path(lightship_runtime.__file__).parent
    wanted = {path.relative_to(source).as_posix() for path in source.rglob("*.py")} | {"py.typed"}
    wanted |= {path.relative_to(source).as_posix() for path in (source / "pages/assets").iterdir()}
    found = {
        path.relative_to(site / "lightship_runtime").as_posix()
        for path in site.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.is_relative_to(site / "lightship_runtime")
    }
    assert found == wanted
    assert sorted(path.name for path in site.iterdir()) == [
        "lightship_runtime",
        f"lightship_runtime-{lightship_runtime.__version__}.dist-info",
    ]


def test_its_record_matches_its_files(site: Path) -> None:
    (info,) = site.glob("*.dist-info")
    recorded = {}
    for path, digest, size in csv.reader((info / "RECORD").read_text().splitlines()):
        recorded[path] = (digest, size)
        if digest:
            content = (site / path).read_bytes()
            encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={encoded}", str(len(content)))
    assert set(recorded) == {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}


def test_an_interpreter_finds_it_and_its_metadata_and_uses_its_bytecode(site: Path) -> None:
    code = (
        "import json, sys, importlib.metadata as m, lightship_runtime.healthcheck as h\n"
        "d = m.distribution('lightship-runtime')\n"
        "print(json.dumps([d.version, sorted(d.requires), h.__cached__, h.__file__]))"
    )
    command = [sys.executable, "-S", "-B", "-c", code]
    result = subprocess.run(command, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True)
    version, requires, cached, file = json.loads(result.stdout)
    assert version == lightship_runtime.__version__
    assert tuple(requires) == runtime_requirements()
    assert Path(cached).is_file()
    assert Path(file).is_relative_to(site)
    # Unchecked bytecode (PEP 552): flags 1 at offset 4.
    assert Path(cached).read_bytes()[4:8] == b"\x01\x00\x00\x00"


def test_its_requirements_are_few_and_loose() -> None:
    names = {Requirement(text).name for text in runtime_requirements()}
    assert names == {"httptools", "msgspec", "uvloop"}
    assert all("==" not in text and "<" not in text for text in runtime_requirements())


def test_its_requirements_have_the_form_that_packaging_gives_them() -> None:
    declared = [Requirement(text) for text in importlib.metadata.requires("lightship-runtime") or ()]
    own = [each for each in declared if each.marker is None or "extra" not in str(each.marker)]
    assert runtime_requirements() == tuple(sorted(map(str, own)))
