"""What answers requests in the image: Lightship's own server around the model, or the user's application."""

from __future__ import annotations

from dataclasses import dataclass

from lightship.models import Model
from lightship.plan.decision import Decision
from lightship.project import Project
from lightship_runtime.config import EngineName


@dataclass(frozen=True)
class Server:
    """How the image serves. Exactly one of `app` and `engine` is set."""

    app: str | None
    engine: EngineName | None
    port: int
    health: str


def decide_server(project: Project, model: Model | None) -> Decision[Server]:
    """The user's own application where there is one, else the engine for the model's format."""
    serve = project.settings.serve
    if project.app:
        server = Server(project.app, None, serve.port, serve.health)
        return Decision(
            "server", server, f"your {project.app}", project.app_reason, (f"health check {serve.health}",)
        )
    assert model is not None  # load_project finds one or fails
    engine = project.settings.model.engine or model.engine
    why = "[model] engine names it" if project.settings.model.engine else f"a {model.format} model"
    server = Server(None, engine, serve.port, serve.health)
    return Decision(
        "server",
        server,
        f"lightship-runtime · {engine}",
        f"{why}; loaded once, before the port opens",
        (f"POST /predict on port {serve.port}",),
    )
