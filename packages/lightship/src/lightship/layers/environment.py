"""The virtual environment in the image: where packages go, and the layer that makes it one.

A real environment (`pyvenv.cfg`) is found by the interpreter itself: no PYTHONPATH or other variable that user code
would inherit, and `.pth` files work as everywhere (PEP 405).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from lightship.layers.layer import recipe_key
from lightship.layers.tar import TarWriter

VERSION = 1
PREFIX = "opt/lightship"  # in the image; short, so that shebang lines stay below the kernel's 127 bytes
PYTHON = f"/{PREFIX}/bin/python"


@dataclass(frozen=True)
class Environment:
    """An environment on the interpreter at `interpreter` (its path in the image), of full version `version`.

    `compiles` says whether the base may have a compiler of native code, which reads headers at run time.
    """

    interpreter: str
    version: str
    compiles: bool = True

    @property
    def minor(self) -> str:
        """`3.11` of 3.11.2."""
        return ".".join(self.version.split(".")[:2])

    @property
    def site_packages(self) -> str:
        return f"{PREFIX}/lib/python{self.minor}/site-packages"

    @property
    def scripts(self) -> str:
        return f"{PREFIX}/bin"

    @property
    def headers(self) -> str:
        return f"{PREFIX}/include/site/python{self.minor}"

    def recorded(self, path: str) -> str:
        """A path of the image as RECORD has it: relative to site-packages.

        >>> Environment("/usr/bin/python3.11", "3.11.2").recorded("opt/lightship/bin/f2py")
        '../../../bin/f2py'
        """
        site = self.site_packages
        if path.startswith(site + "/"):
            return path.removeprefix(site + "/")
        up = "../" * (len(PurePosixPath(site).parts) - len(PurePosixPath(PREFIX).parts))
        return up + path.removeprefix(PREFIX + "/")

    # As a recipe: the environment without any package.

    @property
    def key(self) -> str:
        return recipe_key("environment", VERSION, self.interpreter, self.version)

    @property
    def kind(self) -> str:
        return "environment"

    @property
    def title(self) -> str:
        return f"/{PREFIX} on Python {self.version}"

    def write(self, tar: TarWriter) -> None:
        home = PurePosixPath(self.interpreter).parent
        tar.symlink(f"{self.scripts}/python", self.interpreter)
        tar.symlink(f"{self.scripts}/python3", "python")
        tar.symlink(f"{self.scripts}/python{self.minor}", "python")
        tar.directory(self.site_packages)
        lines = (f"home = {home}", "include-system-site-packages = false", f"version = {self.version}")
        tar.content(f"{PREFIX}/pyvenv.cfg", "".join(f"{line}\n" for line in lines).encode())
