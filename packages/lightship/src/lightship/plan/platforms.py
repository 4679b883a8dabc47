"""Which processors the image is built for."""

from __future__ import annotations

from lightship.plan.decision import Decision
from lightship.project import Project


def decide_platforms(project: Project) -> Decision[tuple[str, ...]]:
    """The user's; each is resolved by itself and none is emulated, so several cost little more than one."""
    platforms = project.settings.image.platforms
    reason = "what most servers are" if platforms == ("linux/amd64",) else "[image] platforms asks for it"
    if len(platforms) > 1:
        reason += "; one index, layers without machine code are shared, bytecode is compiled once"
    return Decision("platforms", platforms, ", ".join(platforms), reason)
