"""From a lock to a base that images are built upon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightship.bases.base import Base, Interpreter
from lightship.bases.debian.lock import DebianLock
from lightship.bases.debian.recipe import TREES, DebianRecipe
from lightship.layers import Compression, Layer, materialise, plain_tar
from lightship.releases import RELEASES
from lightship.session import Session

ENVIRONMENT = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LANG", "C.UTF-8"),
)


def build_debian(
    lock: DebianLock,
    session: Session,
    compression: Compression,
    *,
    mirror: str | None = None,
    compiler_root: Callable[[], Path] | None = None,
) -> Base:
    """The base of a lock. Where its layer is in the cache, nothing else is touched.

    Args:
        compiler_root: For a processor that is not this machine's: the root file system of the same base for this
            machine, whose Python compiles the standard library. Bytecode is the same on all processors.
        mirror: `[base] mirror`, for the packages that the cache lacks; None for the environment's or the host's.

    Raises: `NetworkError` naming the packages that have left the mirror, `IntegrityError` for a package that does not
        match its hash or breaks the format's rules.
    """
    recipe = DebianRecipe(lock, session, mirror, compiler_root)
    layer = materialise(recipe, session.cache, compression)
    return Base(
        reference=f"debian:{lock.codename}",
        digest=None,
        architecture=lock.architecture,
        layers=(layer,),
        interpreter=Interpreter(
            path=lock.interpreter_path,
            version=lock.python_version,
            root=lambda: root_directory(recipe.key, layer, session),
        ),
        environment=ENVIRONMENT,
        os_release=RELEASES[lock.codename].pretty_name,
    )


def root_directory(key: str, layer: Layer, session: Session) -> Path:
    """The base, unpacked: where the build left it, or from its layer if that has gone from the cache."""

    def fill(directory: Path) -> None:
        from lightship.bases.debian.filesystem import unpack
        from lightship.layers.tar_stream import TarStream

        with plain_tar(layer, session.cache) as chunks:
            unpack(TarStream(chunks, f"The layer {layer.title!r}"), directory)

    return session.cache.make_tree(TREES, key, fill)
