"""The root file systems that builds run in: the image's base, for native code with a compiler, and a backend.

The compiler is Debian's own of the base's release, so that what it makes runs on the base's C library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lightship.bases.base import Base
from lightship.bases.debian import DebianLock, build_debian
from lightship.bases.debian.newest import lock_debian
from lightship.building.failure import SourceBuildError
from lightship.download import GoneError
from lightship.layers import Compression, Recipe, materialise
from lightship.layers.environment import Environment
from lightship.layers.installed_wheel import WheelSource
from lightship.layers.rootfs import resolve, root_filesystem
from lightship.layers.wheels import WheelsRecipe
from lightship.lock.file import LockedWheel
from lightship.session import Session

_TOOLCHAINS = "toolchains"  # the records of which packages a toolchain was made of
# What compiles C and C++, and what configure scripts and makefiles call. {python} is the base's, as 3.11.
_PACKAGES = (
    *("gcc", "g++", "libc6-dev", "libpython{python}-dev", "make", "pkgconf"),
    *("dash", "coreutils", "sed", "grep", "mawk", "findutils", "diffutils"),
)
_COMPILERS = ("usr/bin/cc", "usr/bin/gcc", "usr/local/bin/gcc", "usr/bin/clang")


def with_toolchain(
    lock: DebianLock, session: Session, compression: Compression, *, mirror: str | None, keyring: Path | None
) -> Base:
    """The base of a lock with a compiler; never part of an image.

    Which packages it has is kept, so that a build needs no mirror when the last one had what it needs.
    """
    names = {package.name for package in lock.packages}
    wanted = [each.format(python=".".join(lock.python_version.split(".")[:2])) for each in _PACKAGES]
    key = hashlib.sha256("\n".join([lock.codename, lock.architecture, *sorted(names), *wanted]).encode()).hexdigest()
    record = session.cache.read_record(_TOOLCHAINS, key)
    if record is not None:
        try:
            return build_debian(DebianLock.from_dict(record), session, compression, mirror=mirror)
        except GoneError:
            if session.offline:
                raise
    with session.progress.task("Locking a compiler"):
        complete = lock_debian(
            lock.codename, lock.architecture, sorted(names | set(wanted)), session, mirror=mirror, keyring=keyring
        )
    base = build_debian(complete, session, compression, mirror=mirror)
    session.cache.write_record(_TOOLCHAINS, key, complete.to_dict())
    return base


def sandbox_root(
    base: Base,
    wheels: Sequence[LockedWheel],
    session: Session,
    compression: Compression,
    more: Sequence[Recipe] = (),
) -> tuple[Path, BinaryIO | None]:
    """A base with wheels in the environment that images have too, unpacked, and the file that keeps it from pruning.

    The wheels are in the cache. Their bytecode is left out: a backend runs once. `more` are layers besides.
    """
    environment = Environment(base.interpreter.path, base.interpreter.version)
    sources = tuple(
        WheelSource(
            each.name,
            each.version,
            each.file,
            each.sha256,
            each.size,
            partial(session.cache.blob_path, f"sha256:{each.sha256}"),
        )
        for each in wheels
    )
    base.fetch()
    recipes: list[Recipe] = [
        environment,
        *([WheelsRecipe(sources, environment, "none", None)] if sources else []),
        *more,
    ]
    layers = [*base.layers, *(materialise(recipe, session.cache, compression) for recipe in recipes)]
    return session.cache.held_tree(lambda: root_filesystem(layers, session.cache, session.progress))


def check_compiler(root: Path, title: str) -> None:
    """Refuse early what would fail late. Raises `SourceBuildError`."""
    if not any(resolve(root, path) for path in _COMPILERS):
        raise SourceBuildError(
            f"{title} has to be compiled, and the base is an image that has no compiler.",
            hint="Use a Debian base (debian:bookworm), whose compiler is found by itself, or an image with gcc; or "
            "build the wheel elsewhere, put it in a folder, and name that with --find-links.",
        )
