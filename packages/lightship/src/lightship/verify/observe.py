"""Which files an image really opens: start-up, health check, golden request and shutdown, watched from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lightship.errors import IntegrityError
from lightship.layers.rootfs import resolve, root_filesystem
from lightship.oci.image import Image
from lightship.run.embedded import EmbeddedEngine
from lightship.run.engine import RunOptions
from lightship.run.opened import OpenedFiles
from lightship.session import Session
from lightship.verify.smoke import HEALTH, READY_TIMEOUT, prove

_HEALTH_CHECK = 10.0  # seconds for the program of the health check, which has a port where nobody listens


def observe(
    image: Image,
    engine: EmbeddedEngine,
    session: Session,
    folder: str,
    *,
    golden: Path,
    health: str = HEALTH,
    timeout: float = READY_TIMEOUT,
) -> tuple[Path, frozenset[str]]:
    """Run the image until it has given the golden answer, and stop it.

    Args:
        folder: The folder of the image that is watched, such as `opt/lightship`; "" is all of it.

    Returns: the unpacked image, and every file below `folder` that was opened, by its path in the image.

    Raises: as `prove`; `EngineError` where the kernel's limits do not allow to watch.
    """
    root, held = session.cache.held_tree(lambda: root_filesystem(image.layers, session.cache, session.progress))
    try:
        place = resolve(root, folder)  # where links lead inside the image, never outside of it
        if place is None:
            raise IntegrityError(f"The image has no folder /{folder}.")
        with OpenedFiles(root / place) as opened:
            prove(image, engine, session, golden=golden, health=health, timeout=timeout).container.stop()
            if check := image.settings.healthcheck:
                checking = replace(image, settings=replace(image.settings, entrypoint=check.command, command=()))
                container = engine.start(checking, session, RunOptions())
                container.wait(_HEALTH_CHECK)
                container.stop()
    finally:
        if held:
            held.close()
    return root, frozenset(f"{folder}/{path}".lstrip("/") for path in opened.paths)
