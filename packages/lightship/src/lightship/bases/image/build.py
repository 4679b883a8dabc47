"""From the lock of a published image to a base that images are built upon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightship.bases.base import Base, Interpreter
from lightship.bases.image.lock import ImageLock, base_layers, image_source, musl_error
from lightship.errors import ProjectError
from lightship.layers import Layer
from lightship.session import Session

TREES = "base-image"


def build_image_base(lock: ImageLock, session: Session, directory: Path | None = None) -> Base:
    """The base of a lock. Nothing is fetched until `fetch` or the interpreter's `root` is called.

    Args:
        directory: Where a relative path in `oci:<path>` starts: the project's directory.
    """
    layers = base_layers(lock.layers, session)
    variables = (entry.partition("=") for entry in lock.environment)

    def fetch() -> None:
        missing = [layer for layer in lock.layers if not session.cache.has_blob(layer.digest, layer.size)]
        if missing:
            source = image_source(lock.reference, session, directory, digest=lock.manifest)
            source.pull([layer.descriptor for layer in missing], session)

    def root() -> Path:
        return _unpacked(lock, layers, session, fetch)

    return Base(
        reference=lock.reference,
        digest=lock.manifest,
        architecture=lock.architecture,
        layers=layers,
        interpreter=Interpreter(path=lock.python_path, version=lock.python_version, root=root),
        environment=tuple((name, value) for name, _, value in variables),
        os_release=lock.os_release or lock.reference,
        fetch=fetch,
    )


def _unpacked(lock: ImageLock, layers: tuple[Layer, ...], session: Session, fetch: Callable[[], None]) -> Path:
    from lightship.run.rootfs import unpack

    def fill(directory: Path) -> None:
        fetch()
        unpack(layers, session.cache, directory)
        if any(any(libraries.glob("ld-musl-*")) for libraries in _library_directories(directory)):
            raise musl_error(lock.reference)
        python = directory / lock.python_path.lstrip("/")
        if not python.is_symlink() and not python.is_file():  # a link's target is meant from within the image
            raise ProjectError(
                f"The base {lock.reference} says that it has Python {lock.python_version}, "
                f"but there is no {lock.python_path} in it.",
                hint="Choose another base; its environment variable PYTHON_VERSION is misleading.",
            )

    return session.cache.make_tree(TREES, lock.manifest.removeprefix("sha256:"), fill)


def _library_directories(root: Path) -> list[Path]:
    """Where a C library's loader lies; not through links, which are meant from within the image."""
    return [path for path in (root / "lib", root / "usr" / "lib") if path.is_dir() and not path.is_symlink()]
