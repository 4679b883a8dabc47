"""What the builder writes into the image for the runtime: serve.json, and the golden request for the warm-up."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lightship.cache import file_digest
from lightship.plan import Plan
from lightship_runtime.config import Config, ModelFile, Serving, encode_config

CONFIG_PATH = ".lightship/serve.json"  # relative to the app's folder, where the runtime looks
GOLDEN_PATH = ".lightship/golden.json"


def serve_config(plan: Plan, digests: Mapping[str, str]) -> dict[str, bytes]:
    """Files relative to the app's folder, with their content.

    Args:
        digests: `sha256:<hex>` of every file of the project that goes into the image, by path; the model's is written
            down so that the runtime loads a pickle only if it is the one that was looked at here.
    """
    server, golden = plan.server.value, plan.golden
    files = {}
    model = None
    if server.app is None:
        assert plan.model is not None and server.engine is not None
        path = _served(plan)[0]
        model = _model(plan, digests.get(path))
        if golden is not None:
            files[GOLDEN_PATH] = golden.read_bytes()
    files[CONFIG_PATH] = encode_config(_config(plan, model, GOLDEN_PATH if model and golden else None))
    return files


def local_config(plan: Plan, *, trust: bool) -> dict[str, bytes]:
    """The same for a server on this machine, beside the project: no file of which is copied.

    A model that can run code is hashed here and now; with `trust` it is loaded whatever it is when it is opened.
    """
    server, golden = plan.server.value, plan.golden
    model = None
    if server.app is None:
        assert plan.model is not None
        path = plan.model.path
        model = _model(plan, file_digest(path) if path.is_file() else None)
        if trust:
            model = msgspec.structs.replace(model, trust=True)
    # Paths in the configuration stay inside the app's folder, where the golden file of a project lies anyway.
    inside = model is not None and golden is not None and golden.is_relative_to(plan.project.directory)
    relative = golden.relative_to(plan.project.directory).as_posix() if inside and golden else None
    return {CONFIG_PATH: encode_config(_config(plan, model, relative))}


def _model(plan: Plan, digest: str | None) -> ModelFile:
    """The model as the runtime is told of it; `digest` is `sha256:<hex>` of a file, None of a folder."""
    assert plan.model is not None and plan.server.value.engine is not None
    settings, engine = plan.project.settings.model, plan.server.value.engine
    path, form = _served(plan)
    return ModelFile(
        path=path,
        format=form,
        engine=engine,
        sha256=digest.removeprefix("sha256:") if digest else None,
        trust=settings.trust,
        trusted_types=settings.trusted_types,
        task=(settings.task or plan.model.task) if engine == "transformers" else None,
        network=settings.network,
        context=plan.generation.context if plan.generation else None,
        quantize=plan.generation.loaded_with if plan.generation else None,
        input_dtype=settings.input_dtype,
        input_shape=settings.input_shape,
    )


def _served(plan: Plan) -> tuple[str, str]:
    """The path of the model that is served, relative to the app's folder, and its format."""
    if plan.optimize.value is not None:
        return plan.optimize.value.path, "onnx-genai" if plan.optimize.value.quantize else "onnx"
    assert plan.model is not None
    return plan.model.path.relative_to(plan.project.directory).as_posix(), plan.model.format


def _config(plan: Plan, model: ModelFile | None, golden: str | None) -> Config:
    serve = plan.project.settings.serve
    settings = {name: getattr(serve, name) for name in Serving.__struct_fields__}
    return Config(model=model, app=plan.server.value.app, golden=golden, **settings)
