"""What a person may write in lightship.toml (or `[tool.lightship]`): every key, its type and its default.

This file is the reference: `lightship init` writes its comments, the validator takes its names, and an unknown key
is answered with the nearest of them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from lightship_runtime.config import Datatype, EngineName, Serving


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: immutable, and closed to unknown keys."""


class ModelTable(Table, frozen=True):
    """`[model]`: which model, and how it is loaded."""

    path: str | None = None
    engine: EngineName | None = None
    trust: bool = False
    trusted_types: tuple[str, ...] = ()
    task: str | None = None
    network: str | None = None
    context: Annotated[int, msgspec.Meta(ge=16, le=1 << 24)] | None = None
    quantize: Literal["auto", "4bit", "8bit", "none"] = "auto"
    input_dtype: Datatype = "float32"
    input_shape: tuple[int, ...] | None = None


class PythonTable(Table, frozen=True):
    """`[python]`: the interpreter and the requirements."""

    version: str | None = None
    requirements: str | None = None


class BaseTable(Table, frozen=True):
    """`[base]`: what the image stands on. `base = "debian:bookworm"` is short for `image = ...` here."""

    image: str | None = None
    packages: tuple[str, ...] = ()
    mirror: str | None = None
    keyring: str | None = None


class ServeTable(Serving, frozen=True, forbid_unknown_fields=True):
    """`[serve]`: the server in the image. All but `app` is the runtime's own, see `lightship_runtime.config`."""

    app: str | None = None


class ImageTable(Table, frozen=True):
    """`[image]`: the image's name, contents and form."""

    name: str | None = None
    tag: str = "latest"
    platforms: tuple[str, ...] = ("linux/amd64",)
    compression: Literal["zstd", "gzip", "estargz", "none"] = "zstd"
    prune: Literal["safe", "used", "traced", "none"] = "safe"
    keep: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}


class OptimizeTable(Table, frozen=True):
    """`[optimize]`: the model in a form that needs fewer libraries."""

    onnx: bool = False
    tolerance: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-5


class TargetTable(Table, frozen=True):
    """`[target]`: the machine that the image is for."""

    memory: str | None = None
    gpu: Literal["nvidia"] | None = None


class TestTable(Table, frozen=True):
    """`[test]`: the golden request and answer that prove the image."""

    golden: str | None = None
    timeout: float = 120.0


class Settings(Table, frozen=True):
    """The whole file."""

    model: ModelTable = ModelTable()
    python: PythonTable = PythonTable()
    base: str | BaseTable = BaseTable()
    serve: ServeTable = ServeTable()
    image: ImageTable = ImageTable()
    optimize: OptimizeTable = OptimizeTable()
    target: TargetTable = TargetTable()
    test: TestTable = TestTable()

    @property
    def base_table(self) -> BaseTable:
        """`base` in its long form."""
        return BaseTable(image=self.base) if isinstance(self.base, str) else self.base
