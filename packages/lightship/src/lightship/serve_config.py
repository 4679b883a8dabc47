"""What the builder writes into the image for the runtime: serve.json, and the golden request for the warm-up."""

from __future__ import annotations

from collections.abc import Mapping

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
    server, golden = plan.server.value, plan.proof.value
    files = {}
    model = None
    if server.app is None:
        assert plan.model is not None and server.engine is not None
        path = plan.model.path.relative_to(plan.project.directory).as_posix()
        digest = digests.get(path)
        model = ModelFile(
            path=path,
            format=plan.model.format,
            engine=server.engine,
            sha256=digest.removeprefix("sha256:") if digest else None,
            trusted_types=plan.project.settings.model.trusted_types,
        )
        if golden is not None:
            files[GOLDEN_PATH] = golden.read_bytes()
    config = Config(
        model=model,
        app=server.app,
        golden=GOLDEN_PATH if model and golden else None,
        **{field: getattr(plan.project.settings.serve, field) for field in Serving.__struct_fields__},
    )
    files[CONFIG_PATH] = encode_config(config)
    return files
