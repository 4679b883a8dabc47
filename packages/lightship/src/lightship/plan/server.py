"""What answers requests in the image: Lightship's own server around the model, or the user's application."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightship.models import Model
from lightship.plan.decision import Decision
from lightship.plan.generation import Generation
from lightship.plan.optimize import Conversion
from lightship.project import Project
from lightship.project.entry import find_application
from lightship_runtime.config import EngineName

# The runtime's extras, which a model on its own server does not need.
APPLICATION_REQUIREMENTS = ("uvicorn>=0.23",)
WSGI_REQUIREMENTS = ("a2wsgi>=1.10",)
# Weights with fewer bits: 0.46.1 is the oldest that transformers 5 takes, and the first with kernels for CPUs.
QUANTIZED_REQUIREMENTS = ("accelerate>=1.1", "bitsandbytes>=0.46.1")
GRPC_REQUIREMENTS = ("grpcio>=1.49", "protobuf>=3.20")


@dataclass(frozen=True)
class Server:
    """How the image serves. Exactly one of `app` and `engine` is set.

    `requirements` are what that needs besides the runtime's own.
    """

    app: str | None
    engine: EngineName | None
    port: int
    health: str
    requirements: tuple[str, ...] = ()


def decide_server(
    project: Project, model: Model | None, conversion: Conversion | None = None, generation: Generation | None = None
) -> Decision[Server]:
    """The user's own application where there is one, else the engine for the model's format, or its conversion's."""
    serve = project.settings.serve
    if project.app:
        wsgi = _is_wsgi(project.app, project.directory)
        requirements = APPLICATION_REQUIREMENTS + (WSGI_REQUIREMENTS if wsgi else ())
        server = Server(project.app, None, serve.port, serve.health, requirements)
        evidence = (f"health check {serve.health}", *(("a WSGI application, served through a2wsgi",) if wsgi else ()))
        return Decision("server", server, f"your {project.app}", project.app_reason, evidence)
    assert model is not None  # load_project finds one or fails
    engine = project.settings.model.engine or model.engine
    why = "[model] engine names it" if project.settings.model.engine else f"a {model.format} model"
    if generation is not None:
        return _writes(project, generation)
    task = project.settings.model.task or model.task
    if task is not None and engine == "transformers-generation":
        engine = "transformers"  # a pipeline that the user has named
    if task is not None and engine == "transformers":
        why = f"{why} for {task}"
    grpc = GRPC_REQUIREMENTS if serve.grpc_port else ()
    if conversion is not None:
        engine, why = conversion.engine, f"the model is converted, {engine} is left out"
    server = Server(None, engine, serve.port, serve.health, grpc)
    return Decision(
        "server",
        server,
        f"lightship-runtime · {engine}",
        f"{why}; loaded once, before the server is ready",
        (
            f"POST /predict on port {serve.port}",
            *((f"the Open Inference Protocol over gRPC on port {serve.grpc_port}",) if serve.grpc_port else ()),
            *_instead_of_pickle(model),
        ),
    )


def _writes(project: Project, generation: Generation) -> Decision[Server]:
    serve, engine = project.settings.serve, generation.engine.value
    bits = QUANTIZED_REQUIREMENTS if generation.loaded_with and engine == "transformers-generation" else ()
    requirements = (*(GRPC_REQUIREMENTS if serve.grpc_port else ()), *bits, *generation.requirements)
    server = Server(None, engine, serve.port, serve.health, requirements)
    texts = f"{generation.slots} texts at once" if generation.slots > 1 else "one text at a time"
    return Decision(
        "server",
        server,
        f"lightship-runtime · {engine}",
        "it writes text; loaded once, and it has written some before the server is ready",
        (
            f"GET and POST /generate, OpenAI's /v1/completions and /v1/chat/completions on port {serve.port}",
            f"{texts}, of {generation.context} tokens with their prompts",
        ),
    )


def _instead_of_pickle(model: Model) -> tuple[str, ...]:
    """What to save a model as, whose present format runs code when it is loaded."""
    if model.pickle is None:
        return ()
    better = "skops or ONNX" if model.engine == "sklearn" else "safetensors"
    return (f"a pickle, loaded only if its sha256 is the one recorded here; saved as {better} it could run no code",)


def _is_wsgi(app: str, directory: Path) -> bool:
    """Whether the source says so; where it does not, the runtime finds out and says what is missing."""
    module, _, name = app.partition(":")
    path = directory / (module.replace(".", "/") + ".py")
    found = find_application(path) if path.is_file() else None
    return found is not None and found.name == name and found.is_wsgi
