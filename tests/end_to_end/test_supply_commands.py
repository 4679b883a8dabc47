"""`lightship sbom`, `lightship licences` and `lightship push --attach` as a person runs them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Outcome

from lightship.testing import MemoryRegistry

pytestmark = [pytest.mark.network]


def test_bills_of_materials_come_out_the_same_from_two_folders(
    example: Callable[[str], Path], lightship: Callable[..., Outcome], tmp_path: Path
) -> None:
    project = example("iris-fastapi")
    first = lightship("sbom", project, "--quiet")
    assert first.status == 0, first.stderr
    document = json.loads(first.stdout)
    names = {package["name"] for package in document["packages"]}
    assert {"libc6", "scikit-learn", "lightship-runtime", "python", "model.joblib"} <= {
        name.rpartition("/")[2] for name in names
    }
    moved = project.rename(tmp_path / "elsewhere")
    second = lightship("sbom", moved, "--quiet", "--name", "iris-fastapi", "--locked")
    assert second.stdout == first.stdout
    written = tmp_path / "bom.json"
    outcome = lightship("sbom", moved, "--format", "cyclonedx", "-o", written, "--json")
    assert outcome.document["size"] == written.stat().st_size
    assert json.loads(written.read_text())["bomFormat"] == "CycloneDX"


def test_licences_are_shown_and_told_to_programs(
    example: Callable[[str], Path], lightship: Callable[..., Outcome], succeed: Callable[..., Any]
) -> None:
    project = example("iris-fastapi")
    document = succeed("licences", project)
    packages = {each["name"]: each for each in document["packages"]}
    assert packages["fastapi"]["expression"] == "MIT"
    assert packages["scikit-learn"] | {"version": ""} == {
        "kind": "wheel",
        "name": "scikit-learn",
        "version": "",
        "expression": "BSD-3-Clause",
        "stated": "BSD-3-Clause",
        "source": "License-Expression",
        "family": "permissive",
    }
    assert packages["libc6"]["family"] == "unknown"  # its copyright file is free text
    assert sum(document["families"].values()) == len(document["packages"])
    shown = lightship("licences", project).stdout
    assert "strong copyleft" in shown
    assert "netbase" in shown


@pytest.mark.tool("docker-registry")
@pytest.mark.tool("skopeo")
def test_documents_are_attached_to_what_is_pushed_and_nothing_is_sent_twice(
    example: Callable[[str], Path], succeed: Callable[..., Any], registry: str
) -> None:
    project = example("iris-fastapi")
    command = ("push", f"{registry}/iris:1", project, "--attach", "sbom,cyclonedx,provenance")
    first = succeed(*command)
    assert [each["type"] for each in first["attached"]] == [
        "application/spdx+json",
        "application/vnd.cyclonedx+json",
        "application/vnd.in-toto+json",
    ]
    assert {each["way"] for each in first["attached"]} == {"fallback tag"}
    second = succeed(*command)
    assert second["attached"] == [each | {"way": "there", "sent_bytes": 0} for each in first["attached"]]
    tag = f"docker://{registry}/iris:{first['digest'].replace(':', '-')}"
    raw = subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--raw", tag], check=True, capture_output=True)
    assert len(json.loads(raw.stdout)["manifests"]) == 3
    assert succeed("push", f"{registry}/iris:1", project)["attached"] == []


def test_a_registry_with_the_api_gets_no_further_tag(
    example: Callable[[str], Path], succeed: Callable[..., Any]
) -> None:
    with MemoryRegistry() as registry:
        pushed = succeed("push", f"{registry.address}/iris:1", example("iris-fastapi"), "--attach", "provenance")
        assert registry.repositories["iris"].tags == {"1": pushed["digest"]}
        (attached,) = pushed["attached"]
        manifest = json.loads(registry.repositories["iris"].manifests[attached["digest"]][1])
        statement = json.loads(registry.repositories["iris"].blobs[manifest["layers"][0]["digest"]])
    assert statement["subject"][0]["digest"]["sha256"] == pushed["digest"].removeprefix("sha256:")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attach", "signature"], "nothing of that name to attach"),
        (["--attach", "sbom", "--image", "iris:latest"], "--attach needs the lock"),
    ],
)
def test_slips_about_documents_are_told_before_anything_is_built(
    lightship: Callable[..., Outcome], arguments: list[str], message: str
) -> None:
    outcome = lightship("push", "127.0.0.1:9/iris:1", *arguments)
    assert outcome.status == 2
    assert message in " ".join(outcome.stderr.split())
