"""`lightship scan` as a person runs it, with a scanner that answers as told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Outcome

from lightship.oci.image import Image
from lightship.oci.layout import write_layout
from lightship.session import Session


@pytest.fixture
def layout(session: Session, small_image: Callable[..., Image], tmp_path: Path) -> str:
    return f"oci:{write_layout(small_image(), session.cache, tmp_path / 'layout', name='small:1')}"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A PATH with a grype that knows of one vulnerability of medium severity, in whatever layout it is shown."""
    match = {
        "vulnerability": {"id": "CVE-2024-34064", "severity": "Medium", "fix": {"versions": ["3.1.4"]}},
        "artifact": {"name": "jinja2", "version": "3.1.3"},
    }
    (tmp_path / "report.json").write_text(json.dumps({"matches": [match]}))
    program = tmp_path / "programs" / "grype"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ntest -f "${{1#oci-dir:}}/index.json" && exec cat "{tmp_path}/report.json"\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_the_gate_is_an_exit_code_of_its_own(
    lightship: Callable[..., Outcome], layout: str, environ: dict[str, str]
) -> None:
    scan = ("scan", "--image", layout, "--scanner", "grype")
    shown = lightship(*scan, environ=environ)
    assert shown.status == 0
    assert "CVE-2024-34064" in shown.stdout and "grype: 1 medium" in shown.stdout
    assert lightship(*scan, "--fail-on", "high", environ=environ).status == 0
    failed = lightship(*scan, "--fail-on", "medium", environ=environ)
    assert failed.status == 9
    assert "1 of 1 known vulnerabilities" in failed.stderr
    documented = lightship(*scan, "--fail-on", "low", "--json", environ=environ)
    assert documented.status == 9
    assert documented.document["failed"] is True
    assert documented.document["findings"][0]["fixed"] == "3.1.4"


def test_slips_are_told(lightship: Callable[..., Outcome], layout: str) -> None:
    both = lightship("scan", "--image", layout, "--locked")
    assert (both.status, "takes no project" in both.stderr) == (2, True)
    missing = lightship("scan", "--image", layout, "--scanner", "trivy", environ={"PATH": "/nowhere"})
    assert (missing.status, "not installed" in missing.stderr) == (1, True)
    pytest.importorskip("cvss")
    offline = lightship("scan", "--image", layout, "--scanner", "osv", "--offline")
    assert (offline.status, "--offline" in offline.stderr) == (4, True)
