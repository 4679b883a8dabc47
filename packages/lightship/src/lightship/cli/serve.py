"""`lightship serve`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lightship.cli import options
from lightship.cli.display import Display
from lightship.errors import ProjectError
from lightship_runtime.config import Serving
from lightship_runtime.environment import APP, CONFIG, PREFIX

_CHECK = "import lightship_runtime"


def _settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """One flag for each setting of the server, such as --batch-seconds."""
    for name in reversed(Serving.__struct_fields__):
        flag = "--" + name.replace("_", "-")
        function = click.option(flag, f"set_{name}", metavar="VALUE", help=f"serve.{name}, see docs/settings.md.")(
            function
        )
    return function


@click.command()
@options.target
@click.option("--trust", is_flag=True, help="Load a model that can run code even if it is not one that was recorded.")
@click.option("--interpreter", type=click.Path(path_type=Path), help="The Python that has the model's libraries.")
@click.option("--golden", metavar="FILE", help="A golden request and answer to warm up with.")
@click.option("--app", metavar="MODULE:NAME", help="Your own ASGI server, such as serve:app.")
@_settings
def command(
    target: Path, trust: bool, interpreter: Path | None, golden: str | None, app: str | None, **given: str | None
) -> None:
    """Serve a model on this machine as its image would, until Ctrl-C.

    The model's libraries are those of --interpreter, else of the active virtual environment, else of the project's
    .venv, else of the Python that runs lightship. lightship-runtime must be installed there as well.

    \b
    Examples:
      lightship serve model.joblib                  on 127.0.0.1:8080, with a page to try it
      lightship serve . --port 9000 --workers 4
      lightship serve model.pkl --trust
    """
    import subprocess

    from lightship.plan import make_plan
    from lightship.serve_config import CONFIG_PATH, local_config

    # A model is converted when its image is built; here are its own libraries.
    plan = make_plan(options.open_project(target, golden=golden, app=app).as_it_is)
    python = _interpreter(interpreter, plan.project.directory)
    if subprocess.run([python, "-c", _CHECK], capture_output=True, check=False).returncode:
        raise ProjectError(
            f"{python} has no lightship-runtime.",
            hint=f"Install it beside the model's libraries: {python} -m pip install lightship-runtime",
        )
    display = Display()
    for warning in plan.warnings:
        display.warn(warning)
    environment = {**os.environ}
    environment.setdefault(f"{PREFIX}HOST", "127.0.0.1")  # a laptop is not a container: nobody else is let in
    environment |= {
        PREFIX + name.removeprefix("set_").upper(): value for name, value in given.items() if value is not None
    }
    with tempfile.TemporaryDirectory(prefix="lightship-serve-") as folder:
        for path, content in local_config(plan, trust=trust).items():
            file = Path(folder) / path
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        environment |= {CONFIG: str(Path(folder) / CONFIG_PATH), APP: str(plan.project.directory.absolute())}
        process = subprocess.Popen([python, "-m", "lightship_runtime"], env=environment)
        raise SystemExit(_wait(process))


def _wait(process: Any) -> int:
    """The server's exit status; Ctrl-C goes to the server, which drains."""
    import signal

    def forward(number: int, frame: object) -> None:
        process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    code = int(process.wait())
    return code if code >= 0 else 128 - code


def _interpreter(chosen: Path | None, project: Path) -> str:
    import sys

    if chosen is not None:
        return str(chosen)
    folders = [os.environ.get("VIRTUAL_ENV"), str(project / ".venv")]
    pythons = [Path(folder) / "bin" / "python" for folder in folders if folder]
    return str(next((python for python in pythons if python.exists()), sys.executable))
