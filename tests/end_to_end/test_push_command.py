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


@pytest.mark.network
def test_a_machine_without_a_cache_reuses_what_was_pushed_without_its_bytes(
    example: Callable[[str], Path], succeed: Callable[..., Any], registry: str, tmp_path: Path
) -> None:
    project = example("iris-fastapi")
    first = succeed("push", f"{registry}/iris:1", project)
    server = project / "serve.py"
    server.write_text(server.read_text() + "\n# changed\n")
    elsewhere = {"LIGHTSHIP_CACHE": str(tmp_path / "empty")}
    reuse = ("--cache-from", f"{registry}/iris:1", "--locked")
    second = succeed("push", f"{registry}/iris:2", project, *reuse, environ=elsewhere)
    assert second["blobs"] == {"sent": 2, "there": len(second["layers"]) - 1}
    here = sum(path.stat().st_size for path in (tmp_path / "empty" / "v1" / "blobs").rglob("*") if path.is_file())
    assert here < 1_000_000  # neither base nor wheels
    # The same image as where everything is at hand; and into another repository the layers are taken over.
    assert succeed("build", project)["digest"] == second["digest"] != first["digest"]
    other = succeed("push", f"{registry}/other:1", project, *reuse, environ=elsewhere)
    assert other["digest"] == second["digest"]
    assert other["blobs"]["mounted"] >= len(second["layers"]) - 2
    # Who wants to run it gets the bytes.
    proven = succeed("up", project, *reuse, "--once", "--engine", "embedded", environ=elsewhere)
    assert proven["proven"]
    assert proven["digest"] == second["digest"]


@pytest.mark.network
def test_an_image_to_reuse_that_is_not_there_is_no_error(
    example: Callable[[str], Path], lightship: Callable[..., Outcome], registry: str
) -> None:
    outcome = lightship("push", f"{registry}/iris:1", example("iris"), "--cache-from", f"{registry}/none:1")
    assert outcome.status == 0, outcome.stderr
    assert "Nothing of" in outcome.stderr + outcome.stdout


@pytest.mark.network
@pytest.mark.parametrize("settings", ['platforms = ["linux/amd64", "linux/arm64"]', 'prune = "used"'])
def test_reuse_goes_with_platforms_and_with_pruning_that_runs_the_image(
    example: Callable[[str], Path], succeed: Callable[..., Any], registry: str, tmp_path: Path, settings: str
) -> None:
    project = example("iris-fastapi")
    (project / "lightship.toml").write_text(f'[image]\n{settings}\n[serve]\napp = "serve:app"\n')
    first = succeed("push", f"{registry}/iris:1", project)
    elsewhere = {"LIGHTSHIP_CACHE": str(tmp_path / "empty")}
    reuse = ("--cache-from", f"{registry}/iris:1", "--locked")
    second = succeed("push", f"{registry}/iris:2", project, *reuse, environ=elsewhere)
    assert second["digest"] == first["digest"]
    assert set(second["blobs"]) == {"there"}
