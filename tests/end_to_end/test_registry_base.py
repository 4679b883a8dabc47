"""A project on a base in a registry, built and pushed by a machine that has neither the base nor a cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightship.testing import MemoryRegistry

pytestmark = [pytest.mark.network]


def fetched(registry: MemoryRegistry) -> set[str]:
    return {path.rpartition("/")[2] for path in registry.asked("GET") if "/blobs/sha256:" in path}


def test_a_push_does_without_the_bytes_of_its_base_and_a_build_brings_them(
    example: Callable[[str], Path], succeed: Callable[..., Any], tmp_path: Path
) -> None:
    with MemoryRegistry() as registry:
        project = example("iris-fastapi")
        python = succeed("push", f"{registry.address}/bases/python:3", project)
        below = {layer["digest"] for layer in python["layers"] if layer["kind"] == "base"}
        (project / "lightship.lock").unlink()
        base = f'[base]\nimage = "{registry.address}/bases/python:3"\n'
        (project / "lightship.toml").write_text(f'{base}[serve]\napp = "serve:app"\n')
        first = succeed("push", f"{registry.address}/team/iris:1", project)
        assert below <= {layer["digest"] for layer in first["layers"]}
        registry.requests.clear()

        empty = {"LIGHTSHIP_CACHE": str(tmp_path / "empty")}
        reuse = ("--cache-from", f"{registry.address}/team/iris:1", "--locked")
        again = succeed("push", f"{registry.address}/other/iris:1", project, *reuse, environ=empty)
        assert again["digest"] == first["digest"]
        assert "sent" not in again["blobs"] or again["blobs"]["sent"] == 1  # the config
        assert not fetched(registry) & below

        built = succeed("build", project, *reuse, environ=empty)  # it may be run or saved
        assert built["digest"] == first["digest"]
        assert below <= fetched(registry)
