"""Which containers are given GPUs; the engines' programs stand aside, since no GPU is where these tests run."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lightship.oci.image import Image, Settings
from lightship.run import gpus
from lightship.run.client import Client
from lightship.run.docker import DockerEngine
from lightship.run.engine import RunOptions
from lightship.run.podman import PodmanEngine
from lightship.session import Session


def image(value: str | None) -> Image:
    environment = () if value is None else ((gpus.VARIABLE, value),)
    return Image((), Settings(entrypoint=("/server",), environment=environment))


@pytest.mark.parametrize(
    ("value", "takes"), [("all", True), ("0", True), ("void", False), ("", False), (None, False)]
)
def test_an_image_asks_and_the_machine_has(tmp_path: Path, value: str | None, takes: bool) -> None:
    assert not gpus.takes_gpus(image(value), tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert gpus.takes_gpus(image(value), tmp_path) == takes


@pytest.fixture
def told(tmp_path: Path) -> Callable[[str], list[str]]:
    """`told(name)`: what a program of that name, first on PATH, was called with to create a container."""

    def read(name: str) -> list[str]:
        calls = [json.loads(line) for line in (tmp_path / name).with_suffix(".calls").read_text().splitlines()]
        return next(call for call in calls if call[0] == "create")

    for name in ("docker", "podman"):
        program = tmp_path / name
        program.write_text(
            "#!/usr/bin/env python3\nimport json, sys\n"
            f"open({str(program.with_suffix('.calls'))!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
            "print('27.0.0')\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return read


@pytest.mark.parametrize("engine", [DockerEngine, PodmanEngine])
@pytest.mark.parametrize("there", [True, False])
def test_the_engine_is_told(
    tmp_path: Path,
    session: Session,
    told: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    engine: type[DockerEngine] | type[PodmanEngine],
    there: bool,
) -> None:
    monkeypatch.setattr(gpus, "_DEVICE", str(tmp_path if there else tmp_path / "nothing"))
    path = f"{tmp_path}:{session.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    made = engine({**session.environ, "PATH": path})
    monkeypatch.setattr(Client, "load", lambda *_given, **_more: "sha256:0")
    made.start(image("all"), session, RunOptions(port=1))
    words = told(made.name)
    wanted = {"docker": ["--gpus", "all"], "podman": ["--device", "nvidia.com/gpu=all"]}[made.name]
    assert (wanted[0] in words) == there
    assert not there or words[words.index(wanted[0]) + 1] == wanted[1]
    assert words[-1] == "sha256:0"
