"""Where the weights come from when a container starts: with the image (bake), or from elsewhere."""

from __future__ import annotations

from typing import Literal

from lightship.plan.decision import Decision
from lightship.project.context import ContextFile
from lightship.quantities import human_size

Delivery = Literal["bake"]


def decide_weights(files: tuple[ContextFile, ...]) -> Decision[Delivery]:
    """Bake: weights are layers of their own, uncompressed, under everything that changes more often."""
    size = sum(file.size for file in files)
    if not files:
        return Decision("weights", "bake", "none", "there are no weights in the project")
    return Decision(
        "weights",
        "bake",
        f"baked · {human_size(size)}",
        "a layer of its own under the code: a code change never sends the weights again",
        tuple(f"{file.path} · {human_size(file.size)}" for file in files[:5]),
    )
