"""What an image's Python can load: the target of a resolution, in the terms of wheels and of markers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightship.errors import LockError

if TYPE_CHECKING:
    from packaging.tags import Tag

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # OCI's name of an architecture -> Python's and uv's
_FIRST_GLIBC = {"x86_64": 5, "aarch64": 17}  # PEP 600: the oldest glibc 2.x with manylinux wheels
_LEGACY_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600, "Legacy manylinux tags"
# The values of `uv pip compile --python-platform` that name a glibc; uv knows no newer one.
_UV_GLIBC = (17, 28, *range(31, 41))


@dataclass(frozen=True)
class Target:
    """The interpreter and the C library of the image.

    Attributes:
        python: Its version; 3.11, or 3.11.2 where the patch level is known.
        platform: In OCI's words: linux/amd64 or linux/arm64.
        glibc: The version of the base's C library.
    """

    python: str
    platform: str = "linux/amd64"
    glibc: tuple[int, int] = (2, 36)

    @property
    def minor(self) -> str:
        """`3.11` of 3.11.2: what wheels are bound to."""
        return ".".join(self.python.split(".")[:2])

    @property
    def machine(self) -> str:
        """`x86_64` or `aarch64`."""
        system, _, architecture = self.platform.partition("/")
        if system != "linux" or architecture not in _MACHINES:
            raise LockError(
                f"There is no way yet to choose wheels for the platform {self.platform!r}.",
                hint="Use linux/amd64 or linux/arm64.",
            )
        return _MACHINES[architecture]

    @property
    def uv_platform(self) -> str:
        """The value of uv's --python-platform that comes nearest without promising too much."""
        known = [minor for minor in _UV_GLIBC if (2, minor) <= self.glibc]
        if not known:
            raise LockError(
                f"The base's C library, glibc {self.glibc[0]}.{self.glibc[1]}, is too old for today's wheels.",
                hint="Use a base with glibc 2.17 or later, such as debian:bookworm.",
            )
        return f"{self.machine}-manylinux_2_{max(known)}"

    def tags(self) -> list[Tag]:
        """Every tag of wheels that the interpreter can load, best first (PEP 425, PEP 600)."""
        from packaging.tags import compatible_tags, cpython_tags

        major, minor = (int(part) for part in self.minor.split("."))
        platforms = list(self._platforms())
        interpreter = f"cp{major}{minor}"
        return [
            *cpython_tags((major, minor), [interpreter], platforms),
            *compatible_tags((major, minor), interpreter, platforms),
        ]

    def _platforms(self) -> list[str]:
        names = []
        for minor in range(self.glibc[1], _FIRST_GLIBC[self.machine] - 1, -1):
            names.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY_TAGS:
                names.append(f"{_LEGACY_TAGS[minor]}_{self.machine}")
        return [*names, f"linux_{self.machine}"]

    def markers(self) -> dict[str, str]:
        """The values of environment markers (PEP 508) in the image."""
        full = self.python if self.python.count(".") > 1 else f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": self.minor,
            "sys_platform": "linux",
        }

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform} with glibc {self.glibc[0]}.{self.glibc[1]}"
