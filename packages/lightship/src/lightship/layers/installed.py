"""What an unpacked image has installed, by distribution: from the RECORD files that lie in its site-packages."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from lightship.errors import IntegrityError
from lightship.layers.environment import Environment
from lightship.layers.rootfs import resolve

_LARGEST = 64 << 20  # bytes of a RECORD; torch's has 2 MB


@dataclass(frozen=True)
class Installed:
    """A distribution: its normalised name, its .dist-info folder, and its files with their sizes in bytes.

    Paths are as RECORD has them, relative to site-packages. Bytecode is left out: it follows its source.
    """

    name: str
    dist_info: str
    files: dict[str, int]

    @property
    def size(self) -> int:
        return sum(self.files.values())


def installed_distributions(root: Path, environment: Environment) -> tuple[Installed, ...]:
    """Every distribution of the environment in the unpacked image at `root`, by name.

    Raises: `IntegrityError` where a RECORD is none.
    """
    found = []
    site = resolve(root, environment.site_packages)
    for info in sorted((root / site).glob("*.dist-info")) if site is not None else ():
        record = info / "RECORD"
        if info.is_symlink() or record.is_symlink() or not record.is_file():
            continue  # a link would lead out of the image
        if record.stat().st_size > _LARGEST:
            raise IntegrityError(f"{record} is larger than {_LARGEST >> 20} MiB.")
        try:
            with record.open(encoding="utf-8", newline="") as file:
                rows = [(row[0], row[2]) for row in csv.reader(file) if row]
            files = {path: int(size or 0) for path, size in rows if not path.endswith(".pyc")}
        except (ValueError, IndexError, csv.Error) as error:
            raise IntegrityError(f"{record} is not a RECORD: {error}.") from error
        name = canonicalize_name(info.name.removesuffix(".dist-info").partition("-")[0])
        found.append(Installed(name, info.name, files))
    return tuple(found)


def source_of(path: str) -> str:
    """The source of bytecode, which must be there as well for it to be imported; any other path as it is.

    >>> source_of("a/__pycache__/b.cpython-311.pyc"), source_of("a/b.bin")
    ('a/b.py', 'a/b.bin')
    """
    return re.sub(r"(^|/)__pycache__/([^/]+?)\.cpython-\d+(?:\.opt-\d)?\.pyc$", r"\1\2.py", path)
