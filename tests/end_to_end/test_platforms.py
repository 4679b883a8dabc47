"""One image for several processors, built on one: resolved apart, without emulation, and proven in emulation."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import ROOT

from lightship.cache import Cache
from lightship.layers.processors import machine_code
from lightship.oci.image import ImageIndex
from lightship.oci.stored import read_layout
from lightship.session import Session
from lightship_runtime.golden import compare

pytestmark = pytest.mark.network
BOTH = ("--platform", "linux/amd64", "--platform", "linux/arm64")


def test_two_platforms_are_one_index_that_shares_what_has_no_machine_code(
    example: Callable[[str], Path], succeed: Callable[..., Any], shared_cache: Path, tmp_path: Path
) -> None:
    project = example("iris")
    document = succeed("build", project, *BOTH, "--layout", tmp_path / "layout")
    session = Session(cache=Cache(shared_cache), environ={})
    index = read_layout(tmp_path / "layout", session)
    assert isinstance(index, ImageIndex)
    assert index.digest == document["digest"]
    assert {str(image.platform): image.digest for image in index.images} == {
        name: image["digest"] for name, image in document["platforms"].items()
    }
    first, second = ({layer.digest: layer for layer in image.layers} for image in index.images)
    shared = {first[digest].kind for digest in first.keys() & second.keys()}
    assert {"runtime", "weights", "app"} <= shared
    for image in index.images:
        found = {machine for layer in image.layers for machine in machine_code(layer, session.cache).values()}
        assert found == {image.platform.architecture}
    locked = {path.name: tomllib.loads(path.read_text())["target"]["platform"] for path in project.glob("*.lock")}
    assert locked == {"lightship.lock": "linux/amd64", "lightship.arm64.lock": "linux/arm64"}
    assert succeed("build", project, *BOTH, "--locked", "--offline")["digest"] == index.digest
    for name in locked:  # resolved apart, so that one platform's lock can be brought up to date without the other
        (project / name).unlink()


@pytest.mark.tool("qemu-aarch64-static")
def test_the_image_for_arm64_gives_the_golden_answer_in_emulation(
    example: Callable[[str], Path], succeed: Callable[..., Any]
) -> None:
    proven = succeed("up", example("iris"), "--platform", "linux/arm64", "--engine", "embedded", "--once")
    golden = json.loads((ROOT / "examples" / "iris" / "golden.json").read_text())
    assert proven["proven"]
    assert compare(golden["response"], proven["answer"], 1e-6) == []


def test_machine_code_for_another_processor_is_refused(
    example: Callable[[str], Path], lightship: Callable[..., Any]
) -> None:
    project = example("iris-fastapi")
    shutil.copy("/bin/true", project / "helper.so")
    outcome = lightship("build", project, "--platform", "linux/arm64")
    assert outcome.status == 6
    assert "/app/helper.so (amd64, of" in " ".join(outcome.stderr.split())


def test_a_platform_that_nothing_is_built_for_is_refused(
    example: Callable[[str], Path], lightship: Callable[..., Any]
) -> None:
    outcome = lightship("build", example("iris"), "--platform", "linux/sparc64")
    assert outcome.status == 2
    assert "linux/amd64, linux/arm64" in " ".join(outcome.stderr.split())
