"""`lightship push` as a person runs it, to a real registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Outcome

pytestmark = [pytest.mark.tool("docker-registry")]


@pytest.mark.network
def test_a_project_is_built_and_pushed_and_after_a_change_little_travels(
    example: Callable[[str], Path], succeed: Callable[..., Any], lightship: Callable[..., Outcome], registry: str
) -> None:
    project = example("iris-fastapi")
    first = succeed("push", f"{registry}/iris:1", project)
    assert first["blobs"] == {"sent": len(first["layers"]) + 1}
    server = project / "serve.py"
    server.write_text(server.read_text() + "\n# changed\n")
    second = succeed("push", f"{registry}/iris:1", project)
    assert second["blobs"] == {"sent": 2, "there": len(second["layers"]) - 1}
    assert second["sent_bytes"] < 100_000
    assert second["digest"] != first["digest"]
    third = succeed("push", f"{registry}/other:1", "--image", second["name"])
    assert third["digest"] == second["digest"]
    shown = lightship("push", f"{registry}/other:1", "--image", second["name"])
    assert f"pushed {registry}/other:1" in shown.stdout
    assert second["digest"] in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["iris:1"], "names no registry"),
        (["localhost:5000/iris:1", "--image", "iris:latest", "--locked"], "takes no project"),
        (["localhost:5000/Iris:1", "--image", "iris:latest"], "not the name of an image"),
        (["localhost:5000/iris:1", "--image", "never-built:1"], "There is no image never-built:1"),
    ],
)
def test_slips_are_told(lightship: Callable[..., Outcome], arguments: list[str], message: str) -> None:
    outcome = lightship("push", *arguments)
    assert outcome.status == 2
    assert message in outcome.stderr
