"""Wheels that share a layer are compiled once each, and the layer has the same bytes as without the store."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from wheel_factory import make_wheel, source_of

from lightship.cache import Cache
from lightship.errors import IntegrityError
from lightship.layers import Compression, materialise
from lightship.layers.bytecode import Compiler, interpreter_compiler
from lightship.layers.bytecode_store import BytecodeStore, kept
from lightship.layers.environment import Environment
from lightship.layers.wheels import WheelsRecipe

ENVIRONMENT = Environment("/usr/bin/python3", platform.python_version())


class Counting:
    """A byte compiler with this Python that notes what it is given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def open(self) -> Iterator[Compiler]:
        with interpreter_compiler(Path("/nonexistent"), "/usr/bin/python", platform.python_version(), 1) as compiler:
            seen = self.seen

            class Noting:
                def compile(self, sources):  # type: ignore[no-untyped-def]
                    pairs = list(sources)
                    seen.extend(path.rpartition("/")[2] for path, _ in pairs)
                    return compiler.compile(pairs)

            yield Noting()


def recipe(wheels: list[Path], compiler: Counting, store: BytecodeStore | None) -> WheelsRecipe:
    return WheelsRecipe(tuple(map(source_of, wheels)), ENVIRONMENT, "safe", compiler.open, store=store)


def wheels_of(folder: Path, last: str = "1.0") -> list[Path]:
    return [
        make_wheel(folder, "alpha", files={"alpha/a.py": b"x = 1\n", "shared/__init__.py": b"y = 1\n"}),
        make_wheel(
            folder, "beta", files={"beta/b.py": b"def f():\n    return 2\n", "shared/__init__.py": b"y = 2\n"}
        ),
        make_wheel(
            folder, "gamma", last, files={"gamma/c.py": f"v = {last!r}\n".encode(), "gamma/no.py": b"def (\n"}
        ),
    ]


def test_only_the_wheel_that_changed_is_compiled(tmp_path: Path) -> None:
    cache, compiler = Cache(tmp_path / "cache"), Counting()
    store = BytecodeStore(cache)
    materialise(recipe(wheels_of(tmp_path), compiler, store), cache, Compression.NONE)
    assert sorted(compiler.seen) == ["__init__.py", "__init__.py", "a.py", "b.py", "c.py", "no.py"]
    compiler.seen.clear()
    materialise(recipe(wheels_of(tmp_path, "1.1"), compiler, store), cache, Compression.NONE)
    assert compiler.seen == ["c.py", "no.py"]


def test_the_layer_has_the_same_bytes_with_and_without(tmp_path: Path) -> None:
    wheels = wheels_of(tmp_path)
    digests = set()
    for number, stored in enumerate([False, True, True]):
        cache = Cache(tmp_path / f"cache-{min(number, 1)}")
        if number == 2:  # from what was kept
            for record in (cache.root / "records" / "layers").iterdir():
                record.unlink()
        made = recipe(wheels, Counting(), BytecodeStore(cache) if stored else None)
        layer = materialise(made, cache, Compression.NONE)
        digests.add(layer.digest)
        assert not layer.from_cache
    assert len(digests) == 1


def test_bytecode_that_is_gone_is_made_again_and_damage_is_told_of(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    store = BytecodeStore(cache)
    key = store.key("0" * 64, "3.11.2", ["a.py"])
    assert store.find(key) is None
    path = store.keep(key, [("a.py", b"code" * 100)])
    assert list(kept(path)) == [("a.py", b"code" * 100)]
    assert store.find(key) == path
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 255
    path.write_bytes(bytes(damaged))
    with pytest.raises(IntegrityError, match="damaged"):
        list(kept(path))
    path.unlink()
    assert store.find(key) is None


def test_the_key_tells_wheels_pythons_and_what_is_left_out_apart(tmp_path: Path) -> None:
    store = BytecodeStore(Cache(tmp_path))
    keys = {
        store.key("0" * 64, "3.11.2", ["a.py"]),
        store.key("1" * 64, "3.11.2", ["a.py"]),
        store.key("0" * 64, "3.11.3", ["a.py"]),
        store.key("0" * 64, "3.11.2", ["a.py", "b.py"]),
    }
    assert len(keys) == 4
    assert replace(store) == store
