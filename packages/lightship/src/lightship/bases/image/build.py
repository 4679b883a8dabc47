"""From the lock of a published image to a base that images are built upon."""

from __future__ import annotations

from pathlib import Path

from lightship.bases.base import Base, Interpreter
from lightship.bases.image.lock import LAYOUT_PREFIX, ImageLock, base_layers, image_source, musl_error
from lightship.errors import ProjectError
from lightship.oci.name import Reference
from lightship.session import Session


def build_image_base(lock: ImageLock, session: Session, directory: Path | None = None) -> Base:
    """The base of a lock. Nothing is fetched until `fetch` or the interpreter's `root` is called.

    The cache is told where the layers of a base in a registry can be had, so that a push fetches only those that its
    destination lacks.

    Args:
        directory: Where a relative path in `oci:<path>` starts: the project's directory.
    """
    layers = base_layers(lock.layers, session)
    lazy = not lock.reference.startswith(LAYOUT_PREFIX)
    if lazy:
        named = Reference.parse(lock.reference)
        for layer in lock.layers:
            session.cache.note_elsewhere(layer.digest, f"{named.registry}/{named.repository}")
    variables = (entry.partition("=") for entry in lock.environment)

    def fetch() -> None:
        missing = [layer for layer in lock.layers if not session.cache.has_blob(layer.digest, layer.size)]
        if missing:
            source = image_source(lock.reference, session, directory, digest=lock.manifest)
            source.pull([layer.descriptor for layer in missing], session)

    def root() -> Path:
        from lightship.layers.rootfs import root_filesystem

        fetch()
        directory = root_filesystem(layers, session.cache, session.progress)
        _check(lock, directory)
        return directory

    return Base(
        reference=lock.reference,
        digest=lock.manifest,
        architecture=lock.architecture,
        layers=layers,
        interpreter=Interpreter(path=lock.python_path, version=lock.python_version, root=root),
        environment=tuple((name, value) for name, _, value in variables),
        os_release=lock.os_release or lock.reference,
        fetch=fetch,
        lazy=lazy,
    )


def _check(lock: ImageLock, root: Path) -> None:
    """What the image's configuration said when it was locked must be true of its files."""
    if any(any(libraries.glob("ld-musl-*")) for libraries in _library_directories(root)):
        raise musl_error(lock.reference)
    python = root / lock.python_path.lstrip("/")
    if not python.is_symlink() and not python.is_file():  # a link's target is meant from within the image
        raise ProjectError(
            f"The base {lock.reference} says that it has Python {lock.python_version}, "
            f"but there is no {lock.python_path} in it.",
            hint="Choose another base; its environment variable PYTHON_VERSION is misleading.",
        )


def _library_directories(root: Path) -> list[Path]:
    """Where a C library's loader lies; not through links, which are meant from within the image."""
    return [path for path in (root / "lib", root / "usr" / "lib") if path.is_dir() and not path.is_symlink()]
