"""From a plan, a base and finished layers to the image: settings, annotations, and the order of the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightship import __version__
from lightship.bases.base import Base
from lightship.errors import ProjectError
from lightship.layers import EPOCH, Layer
from lightship.layers.environment import PREFIX, PYTHON
from lightship.oci.image import BASE_DIGEST, BASE_NAME, Healthcheck, Image, Platform, Settings
from lightship.plan import Plan

APP = "app"  # the app's folder in the image, and its working directory


def assemble(plan: Plan, base: Base, layers: Sequence[Layer], environ: Mapping[str, str]) -> Image:
    """The image of a plan; `layers` lie above the base's."""
    image = plan.project.settings.image
    server = plan.server.value
    return Image(
        layers=(*base.layers, *layers),
        platform=Platform(base.architecture),
        settings=Settings(
            entrypoint=(PYTHON, "-m", "lightship_runtime"),
            environment=_environment(base, {**_gpu(plan), **image.environment}),
            user=plan.user.value,
            working_directory=f"/{APP}",
            ports=(server.port,),
            labels=tuple(sorted(image.labels.items())),
            healthcheck=Healthcheck((PYTHON, "-m", "lightship_runtime.healthcheck")),
        ),
        annotations=_annotations(plan, base),
        created=_created(environ),
    )


def _environment(base: Base, chosen: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The base's variables, ours, the user's; a later one wins, the order is kept."""
    variables = dict(base.environment)
    path = variables.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    variables["PATH"] = f"/{PREFIX}/bin:{path}"
    variables.setdefault("LANG", "C.UTF-8")
    variables["PYTHONUNBUFFERED"] = "1"  # logs are read while the server runs
    variables["PYTHONDONTWRITEBYTECODE"] = "1"  # bytecode is in the image, and its folders are not writable
    # Where libraries keep what they compute (XDG Base Directory Specification): numba refuses to import what it
    # cannot cache, as librosa and pynndescent do. Only /tmp can be written.
    variables.setdefault("XDG_CACHE_HOME", "/tmp/.cache")  # noqa: S108 - the container's /tmp is its own
    variables.update(chosen)
    return tuple(variables.items())


def _gpu(plan: Plan) -> dict[str, str]:
    """What NVIDIA's container toolkit reads: all GPUs that the container is given, to compute and to be listed."""
    if plan.project.settings.target.gpu is None:
        return {}
    return {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}


def _annotations(plan: Plan, base: Base) -> tuple[tuple[str, str], ...]:
    annotations = {
        "org.opencontainers.image.title": plan.project.name,
        BASE_NAME: base.reference,
        "dev.lightship.version": __version__,
    }
    if base.digest:
        annotations[BASE_DIGEST] = base.digest
    return tuple(sorted(annotations.items()))


def _created(environ: Mapping[str, str]) -> int:
    """SOURCE_DATE_EPOCH in seconds, else a fixed date: a build's own time would change the digest."""
    chosen = environ.get("SOURCE_DATE_EPOCH")
    if chosen is None:
        return EPOCH
    if not chosen.isdecimal() or int(chosen) > 253402300799:  # the last second of the year 9999
        raise ProjectError(f"SOURCE_DATE_EPOCH: expected seconds since 1970, got {chosen!r}.")
    return int(chosen)
