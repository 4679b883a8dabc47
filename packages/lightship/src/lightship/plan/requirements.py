"""Which file says what the image needs to have installed."""

from __future__ import annotations

from lightship.errors import ProjectError
from lightship.lock.requirements import RequirementsSource, find_requirements
from lightship.models import Model, propose_requirements
from lightship.plan.decision import Decision
from lightship.project import Project


def decide_requirements(project: Project, model: Model | None) -> Decision[RequirementsSource]:
    """The file that `[python] requirements` names, else the first of the documented order, else a proposal."""
    explicit = project.settings.python.requirements
    source = find_requirements(project.directory, explicit)
    if source is not None:
        reason = "[python] requirements names it" if explicit else "the first there is, in the documented order"
        return Decision("requirements", source, source.title, reason)
    if model is None:
        raise ProjectError(
            f"{project.directory} has no requirements: no uv.lock, pylock.toml, requirements.txt or pyproject.toml.",
            hint="Write a requirements.txt with what your server imports, versions pinned.",
        )
    proposed = propose_requirements(model)
    return Decision(
        "requirements",
        RequirementsSource("list", project.directory, proposed),
        ", ".join(proposed),
        "there is no requirements file; this is what the model itself needs",
        tuple(package.reason for package in model.packages),
    )
