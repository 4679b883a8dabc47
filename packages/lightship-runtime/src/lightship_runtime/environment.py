"""The variables that the runtime reads, and how: in one place, and cheap enough for the health check to import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightship_runtime.errors import ConfigError

PREFIX = "LIGHTSHIP_"
CONFIG = "LIGHTSHIP_CONFIG"
APP = "LIGHTSHIP_APP"
PORTS = ("LIGHTSHIP_PORT", "PORT")  # the second is what Knative, Cloud Run and Heroku set
VLLM_ARGS = "LIGHTSHIP_VLLM_ARGS"
DEFAULT_CONFIG = "/app/.lightship/serve.json"


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the configuration is: LIGHTSHIP_CONFIG, else where the builder puts it."""
    return Path(environ.get(CONFIG) or DEFAULT_CONFIG)


def app_override(environ: Mapping[str, str]) -> Path | None:
    """The app's directory where it is not the one around the configuration: LIGHTSHIP_APP, or None."""
    return Path(environ[APP]) if environ.get(APP) else None


def port_override(environ: Mapping[str, str]) -> int | None:
    """The port of LIGHTSHIP_PORT, else of PORT, else None. Raises ConfigError where it is no port."""
    for name in PORTS:
        if value := environ.get(name):
            if not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
                raise ConfigError(
                    f"{name} is {value[:40]!r}, which is not a port.", hint="Set it to a number from 1 to 65535."
                )
            return int(value)
    return None
