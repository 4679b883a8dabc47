"""Which engine runs an image: the one that was named, or the first that works on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from lightship.errors import EngineError
from lightship.run.engine import Engine
from lightship.session import Session

ENGINES = ("docker", "podman", "embedded")  # in the order of preference: what users have, then what needs nothing


def engines(session: Session) -> tuple[Engine, ...]:
    """All engines, in the order of preference, whether or not they work here."""
    from lightship.run.docker import DockerEngine
    from lightship.run.embedded import EmbeddedEngine
    from lightship.run.podman import PodmanEngine

    return (DockerEngine(session.environ), PodmanEngine(session.environ), EmbeddedEngine())


def choose(available: Sequence[Engine], name: str | None = None) -> Engine:
    """The engine `name`, or the first that works.

    Raises: `EngineError` with the reason where the named one, or none at all, can be used.
    """
    if name is None:
        reasons = []
        for engine in available:
            if (reason := engine.why_not()) is None:
                return engine
            reasons.append(f"{engine.name}: {reason}")
        raise EngineError(
            f"No engine can run the image here. {'; '.join(reasons)}.",
            hint="The image itself is complete; push it, or run it on a machine with Docker or Podman.",
        )
    for engine in available:
        if engine.name != name:
            continue
        if reason := engine.why_not():
            raise EngineError(
                f"The engine {name} cannot be used here: {reason}.", hint="Leave --engine out to take one that works."
            )
        return engine
    raise EngineError(f"There is no engine {name!r}.", hint=f"Choose one of {', '.join(e.name for e in available)}.")
