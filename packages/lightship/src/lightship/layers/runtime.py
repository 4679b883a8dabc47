"""The layer that holds lightship-runtime, taken from what is installed beside this builder.

The builder and the runtime of an image are always of one version, and no package index is asked for it. An editable
install and one from a wheel give the same layer: only files and metadata that both have go in.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lightship.errors import LightshipError
from lightship.layers.bytecode import Compiler, bytecode_path
from lightship.layers.environment import Environment
from lightship.layers.layer import recipe_key
from lightship.layers.tar import TarWriter

VERSION = 2
PACKAGE = "lightship_runtime"
DISTRIBUTION = "lightship-runtime"
_PLAIN = re.compile(r"[A-Za-z0-9._-]+(?:>=[0-9.]+)?")  # the requirements of ours that no extra brings
_WHEEL = b"Wheel-Version: 1.0\nGenerator: lightship\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def runtime_requirements() -> tuple[str, ...]:
    """What lightship-runtime needs in the image, as requirements for the resolver, extras left out; sorted."""
    return tuple(sorted(filter(None, map(_requirement, _distribution().requires or ()))))


@dataclass(frozen=True)
class RuntimeRecipe:
    """A layer with lightship-runtime installed into an environment.

    `compiler` opens the byte compiler of the environment's interpreter; None leaves the bytecode out.
    """

    environment: Environment
    compiler: Callable[[], AbstractContextManager[Compiler]] | None = field(compare=False)

    @property
    def key(self) -> str:
        compiled = "bytecode" if self.compiler else "sources"
        files = (f"{path}:{hashlib.sha256(content).hexdigest()}" for path, content in self._files.items())
        return recipe_key(
            "runtime", VERSION, self.environment.site_packages, self.environment.version, compiled, *files
        )

    @property
    def kind(self) -> str:
        return "runtime"

    @property
    def title(self) -> str:
        return f"{DISTRIBUTION} {_distribution().version}"

    def write(self, tar: TarWriter) -> None:
        site = self.environment.site_packages
        for path, content in self._files.items():
            tar.content(f"{site}/{path}", content)
        compiled = list(self._bytecode())
        for path, content in compiled:
            tar.content(f"{site}/{path}", content)
        tar.content(f"{site}/{self._dist_info}/RECORD", self._record([path for path, _ in compiled]))

    def _bytecode(self) -> Iterator[tuple[str, bytes]]:
        if self.compiler is None:
            return
        root = f"/{self.environment.site_packages}/"
        sources = [(root + path, content) for path, content in self._files.items() if path.endswith(".py")]
        with self.compiler() as compiler:
            for path, bytecode in compiler.compile(sources):
                if bytecode is None:
                    raise LightshipError(f"Python {self.environment.version} cannot compile {path}.")
                yield bytecode_path(path.removeprefix(root), self.environment.minor), bytecode

    @property
    def _dist_info(self) -> str:
        return f"{PACKAGE}-{_distribution().version}.dist-info"

    @cached_property
    def _files(self) -> dict[str, bytes]:
        """Every file but bytecode and RECORD: path below site-packages and content, sorted. Some 100 KiB in all."""
        files = {f"{PACKAGE}/{path}": content for path, content in _package_files()}
        files[f"{self._dist_info}/INSTALLER"] = b"lightship\n"
        files[f"{self._dist_info}/METADATA"] = _metadata()
        files[f"{self._dist_info}/WHEEL"] = _WHEEL
        return dict(sorted(files.items()))

    def _record(self, compiled: list[str]) -> bytes:
        """RECORD as an installer writes it: without a hash for bytecode and itself. No path here needs quoting."""
        rows = [f"{path},sha256={_urlsafe(content)},{len(content)}" for path, content in self._files.items()]
        rows += [f"{path},," for path in [*compiled, f"{self._dist_info}/RECORD"]]
        return "".join(f"{row}\n" for row in sorted(rows)).encode()


def _package_files() -> Iterator[tuple[str, bytes]]:
    """The installed package's files, bytecode left out."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise _not_installed()
    root = Path(next(iter(spec.submodule_search_locations)))
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
        if path.is_file() and not hidden and path.suffix != ".pyc":
            yield relative.as_posix(), path.read_bytes()


def _metadata() -> bytes:
    """METADATA with the fields that matter to an installed package, in one form whoever installed this copy."""
    distribution = _distribution()
    declared = distribution.metadata
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {DISTRIBUTION}",
        f"Version: {distribution.version}",
        f"Summary: {declared['Summary'] or ''}",
        f"Requires-Python: {declared['Requires-Python'] or '>=3.10'}",
        *(f"Requires-Dist: {requirement}" for requirement in runtime_requirements()),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _requirement(declared: str) -> str | None:
    """A requirement in the form that `packaging` gives it; None where it belongs to an extra."""
    if _PLAIN.fullmatch(declared):
        return declared  # in that form already, and a build that has nothing to do need not import the parser
    from packaging.requirements import Requirement

    requirement = Requirement(declared)
    return None if requirement.marker is not None and "extra" in str(requirement.marker) else str(requirement)


def _distribution() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise _not_installed() from None


def _not_installed() -> LightshipError:
    return LightshipError(
        f"The package {DISTRIBUTION}, which goes into every image, is not installed.",
        hint="Install Lightship again.",
    )


def _urlsafe(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
