"""From a folder to an answer: `lightship up` on the examples, in every engine that is here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import LIGHTSHIP, ROOT, Outcome

from lightship.run.docker import DockerEngine
from lightship.run.podman import PodmanEngine
from lightship_runtime.golden import compare

pytestmark = pytest.mark.network


@pytest.mark.parametrize("engine", ["embedded", "docker", "podman"])
@pytest.mark.parametrize("name", ["iris", "iris-fastapi"])
def test_an_example_answers_its_golden_request(
    example: Callable[[str], Path],
    succeed: Callable[..., Any],
    request: pytest.FixtureRequest,
    name: str,
    engine: str,
) -> None:
    if engine != "embedded":
        request.getfixturevalue(engine)  # skips where it is not to be had
    proven = succeed("up", example(name), "--once", "--engine", engine)
    golden = json.loads((ROOT / "examples" / name / "golden.json").read_text())
    assert (proven["engine"], proven["proven"]) == (engine, True)
    assert compare(golden["response"], proven["answer"], 1e-6) == []


def test_an_archive_is_loaded_by_docker_and_podman_as_the_same_image(
    example: Callable[[str], Path],
    succeed: Callable[..., Any],
    docker: DockerEngine,
    podman: PodmanEngine,
    tmp_path: Path,
) -> None:
    archive = tmp_path / "image.tar"
    built = succeed("build", example("iris"), "-o", archive)
    for engine in ("docker", "podman"):
        subprocess.run([engine, "load", "-i", str(archive)], capture_output=True, check=True)
        command = [engine, "image", "inspect", "--format", "{{.Id}}", built["name"]]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert found.removeprefix("sha256:") == built["image_id"].removeprefix("sha256:")


def test_an_image_runs_by_its_name_and_from_a_layout(
    example: Callable[[str], Path], succeed: Callable[..., Any], tmp_path: Path
) -> None:
    folder = example("iris")
    built = succeed("build", folder, "--layout", tmp_path / "layout")
    for image in (built["name"], f"oci:{tmp_path / 'layout'}"):
        proven = succeed("run", image, "--once", "--engine", "embedded", "--golden", folder / "golden.json")
        assert (proven["proven"], proven["image_id"]) == (True, built["image_id"])


def test_a_model_alone_becomes_an_image(
    example: Callable[[str], Path], succeed: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    shutil.copy(example("iris") / "model.joblib", folder)
    proven = succeed("up", folder / "model.joblib", "--once", "--engine", "embedded")
    assert proven["name"].startswith("model:")


def test_a_server_named_on_the_command_line_needs_no_settings(
    example: Callable[[str], Path], succeed: Callable[..., Any]
) -> None:
    folder = example("iris-fastapi")
    (folder / "lightship.toml").unlink()
    proven = succeed("up", folder / "serve.py", "--once", "--engine", "embedded")
    assert "prediction" in proven["answer"]


@pytest.mark.tool("umoci")
@pytest.mark.parametrize("compression", ["gzip", "estargz"])
def test_a_gzip_image_is_read_by_docker_and_umoci(
    example: Callable[[str], Path],
    succeed: Callable[..., Any],
    docker: DockerEngine,
    tmp_path: Path,
    compression: str,
) -> None:
    folder, layout = example("iris"), tmp_path / "layout"
    with (folder / "lightship.toml").open("a") as settings:
        settings.write(f'\n[image]\ncompression = "{compression}"\n')
    built = succeed("build", folder, "--layout", layout)
    tag = json.loads((layout / "index.json").read_text())["manifests"][0]["annotations"][
        "org.opencontainers.image.ref.name"
    ]
    unpack = ["umoci", "unpack", "--rootless", "--image", f"{layout}:{tag}", str(tmp_path / "bundle")]
    subprocess.run(unpack, check=True, capture_output=True)
    assert (tmp_path / "bundle" / "rootfs" / "app" / "model.joblib").is_file()
    proven = succeed("up", folder, "--once", "--engine", "docker")
    assert (proven["proven"], proven["digest"]) == (True, built["digest"])


@pytest.mark.tool("skopeo")
def test_a_base_from_a_registry_keeps_its_layers(
    example: Callable[[str], Path], succeed: Callable[..., Any], registry: str, tmp_path: Path
) -> None:
    """The base is an image with a Python in it; here it is one that Lightship built."""
    base = succeed("build", example("iris"), "--layout", tmp_path / "base")
    reference = f"{registry}/team/python:3.11"
    copy = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"oci:{tmp_path / 'base'}", f"docker://{reference}"], check=True)
    proven = succeed("up", example("iris-fastapi"), "--once", "--engine", "embedded", "--base", reference)
    assert proven["proven"] is True
    assert [layer["digest"] for layer in proven["layers"]][: len(base["layers"])] == [
        layer["digest"] for layer in base["layers"]
    ]
    assert base["digest"] in (tmp_path / "iris-fastapi" / "lightship.lock").read_text()


def test_up_serves_until_it_is_interrupted(example: Callable[[str], Path], shared_cache: Path) -> None:
    command = [str(LIGHTSHIP), "up", str(example("iris")), "--engine", "embedded", "--json"]
    environ = {**os.environ, "LIGHTSHIP_CACHE": str(shared_cache), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        document = ""
        for line in process.stdout:
            document += line
            if line == "}\n":
                break
        url = json.loads(document)["url"]
        with urllib.request.urlopen(f"{url}/health") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=2)


def test_a_wrong_golden_answer_fails_with_the_difference(
    example: Callable[[str], Path], lightship: Callable[..., Outcome]
) -> None:
    folder = example("iris-fastapi")
    golden = json.loads((folder / "golden.json").read_text())
    golden["response"] = {"prediction": [7]}
    (folder / "golden.json").write_text(json.dumps(golden))
    outcome = lightship("up", folder, "--once", "--engine", "embedded")
    assert outcome.status == 6
    assert "prediction" in outcome.stderr


def test_a_second_build_takes_everything_from_the_cache(
    example: Callable[[str], Path], succeed: Callable[..., Any]
) -> None:
    folder = example("iris")
    first, second = succeed("build", folder), succeed("build", folder)
    assert first["digest"] == second["digest"]
    assert all(layer["from_cache"] for layer in second["layers"])


def test_a_code_change_makes_only_the_app_layer(example: Callable[[str], Path], succeed: Callable[..., Any]) -> None:
    folder = example("iris-fastapi")
    before = succeed("build", folder)
    with (folder / "serve.py").open("a") as file:
        file.write("# changed\n")
    after = succeed("build", folder)
    assert [layer["kind"] for layer in after["layers"] if not layer["from_cache"]] == ["app"]
    assert before["layers"][:-1] == [
        {**layer, "from_cache": before["layers"][i]["from_cache"]} for i, layer in enumerate(after["layers"][:-1])
    ]


def test_a_locked_build_needs_the_lock(example: Callable[[str], Path], lightship: Callable[..., Outcome]) -> None:
    folder = example("iris")
    missing = lightship("build", folder, "--locked")
    assert missing.status == 3 and "lightship lock" in missing.stderr
    assert lightship("lock", folder).status == 0
    assert lightship("build", folder, "--locked", "--offline").status in (0, 4)  # 4 where the cache is cold
    requirements = folder / "requirements.txt"
    requirements.write_text(requirements.read_text() + "# a comment changes the file\nclick\n")
    stale = lightship("build", folder, "--locked")
    assert stale.status == 3 and "requirements" in stale.stderr


def test_the_lock_names_no_host(example: Callable[[str], Path], lightship: Callable[..., Outcome]) -> None:
    folder = example("iris")
    assert lightship("lock", folder).status == 0
    assert "://" not in (folder / "lightship.lock").read_text()


def test_plan_explains_every_decision(example: Callable[[str], Path], succeed: Callable[..., Any]) -> None:
    plan = succeed("plan", example("iris"))
    names = [decision["name"] for decision in plan["decisions"]]
    assert names[:5] == ["model", "optimize", "server", "platforms", "base"]
    assert all(decision["reason"] for decision in plan["decisions"])


def test_a_model_saved_with_another_scikit_learn_is_told_of_before_anything_is_built(
    example: Callable[[str], Path], succeed: Callable[..., Any]
) -> None:
    folder = example("iris")
    requirements = folder / "requirements.txt"
    requirements.write_text(requirements.read_text().replace("scikit-learn==1.7.2", "scikit-learn==1.6.1"))
    warnings = " ".join(succeed("plan", folder)["warnings"])
    assert "1.7.2" in warnings and "1.6.1" in warnings
