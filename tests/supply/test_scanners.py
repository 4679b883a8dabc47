"""What scanners say, in one form. The programs here answer with reports written after the tools' documentation."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightship.errors import LightshipError, NetworkError
from lightship.session import Session
from lightship.supply.finding import Finding, Severity, failing, sorted_findings
from lightship.supply.scanners import installed_scanner, scan_path

TRIVY: dict[str, Any] = {
    "SchemaVersion": 2,
    "ArtifactName": "layout",
    "ArtifactType": "container_image",
    "Results": [
        {
            "Target": "layout (debian 12.5)",
            "Class": "os-pkgs",
            "Type": "debian",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2023-45853",
                    "PkgID": "zlib1g@1:1.2.13.dfsg-1",
                    "PkgName": "zlib1g",
                    "InstalledVersion": "1:1.2.13.dfsg-1",
                    "Status": "will_not_fix",
                    "Severity": "CRITICAL",
                }
            ],
        },
        {
            "Target": "Python",
            "Class": "lang-pkgs",
            "Type": "python-pkg",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2024-34064",
                    "PkgName": "Jinja2",
                    "InstalledVersion": "3.1.3",
                    "FixedVersion": "3.1.4",
                    "Severity": "MEDIUM",
                },
                {"VulnerabilityID": "CVE-2025-1", "PkgName": "odd", "InstalledVersion": "1", "Severity": "UNKNOWN"},
            ],
        },
        {"Target": "nothing here", "Class": "config"},
    ],
}
GRYPE: dict[str, Any] = {
    "matches": [
        {
            "vulnerability": {
                "id": "GHSA-h75v-3vvj-5mfj",
                "severity": "Medium",
                "fix": {"versions": ["3.1.4"], "state": "fixed"},
            },
            "relatedVulnerabilities": [{"id": "CVE-2024-34064"}],
            "artifact": {"name": "Jinja2", "version": "3.1.3", "type": "python", "purl": "pkg:pypi/jinja2@3.1.3"},
        },
        {
            "vulnerability": {"id": "CVE-2010-4756", "severity": "Negligible", "fix": {"versions": [], "state": ""}},
            "artifact": {"name": "libc6", "version": "2.36-9", "type": "deb"},
        },
    ],
    "source": {"type": "image"},
}
SCOUT: dict[str, Any] = {
    "version": "2.1.0",
    "runs": [
        {
            "tool": {
                "driver": {
                    "name": "docker scout",
                    "rules": [
                        {
                            "id": "CVE-2023-45853",
                            "properties": {
                                "affected_version": ">=1:1.2.13.dfsg-1",
                                "cvssV3_severity": "CRITICAL",
                                "fixed_version": "not fixed",
                                "purls": ["pkg:deb/debian/zlib@1%3A1.2.13.dfsg-1?os_distro=bookworm&os_name=debian"],
                            },
                        }
                    ],
                }
            },
            "results": [{"ruleId": "CVE-2023-45853", "ruleIndex": 0, "kind": "fail", "level": "error"}],
        }
    ],
}
MakeProgram = Callable[..., Session]


@pytest.fixture
def with_program(session: Session, tmp_path: Path) -> MakeProgram:
    """`with_program(name, report, status, says)`: a session on whose PATH is only that; it notes how it was asked."""

    def make(name: str, report: object = None, status: int = 0, says: str = "") -> Session:
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        (programs / f"{name}.json").write_text(report if isinstance(report, str) else json.dumps(report))
        (programs / name).write_text(
            f'#!/bin/sh\n[ "$2" = version ] && exit 0\necho "$@" >"{programs}/{name}.asked"\n'
            f'env >"{programs}/{name}.env"\necho "{says}" >&2\n'
            f'while read -r line; do echo "$line"; done <"{programs}/{name}.json"\necho "$line"\nexit {status}\n'
        )
        (programs / name).chmod(0o755)
        for tool in ("env",):
            if not (programs / tool).exists():
                (programs / tool).symlink_to(f"/usr/bin/{tool}")
        return replace(session, environ={**os.environ, "PATH": str(programs)})

    return make


def scanned(session: Session, path: Path) -> tuple[Finding, ...]:
    scanner = installed_scanner(session)
    assert scanner is not None
    return scan_path(scanner, path, session)


def asked(tmp_path: Path, name: str) -> str:
    return (tmp_path / "programs" / f"{name}.asked").read_text().strip()


def test_trivy(with_program: MakeProgram, tmp_path: Path) -> None:
    assert scanned(with_program("trivy", TRIVY), tmp_path) == (
        Finding("CVE-2023-45853", "zlib1g", "1:1.2.13.dfsg-1", "", Severity.CRITICAL, "trivy"),
        Finding("CVE-2024-34064", "Jinja2", "3.1.3", "3.1.4", Severity.MEDIUM, "trivy"),
        Finding("CVE-2025-1", "odd", "1", "", Severity.UNKNOWN, "trivy"),
    )
    assert asked(tmp_path, "trivy") == f"image --quiet --format json --scanners vuln --input {tmp_path}"


def test_grype(with_program: MakeProgram, tmp_path: Path) -> None:
    session = with_program("grype", GRYPE)
    assert scanned(session, tmp_path) == (
        Finding("GHSA-h75v-3vvj-5mfj", "Jinja2", "3.1.3", "3.1.4", Severity.MEDIUM, "grype"),
        Finding("CVE-2010-4756", "libc6", "2.36-9", "", Severity.LOW, "grype"),
    )
    assert asked(tmp_path, "grype") == f"oci-dir:{tmp_path} --output json --quiet"
    (tmp_path / "image.tar").touch()
    scanned(replace(session, offline=True), tmp_path / "image.tar")
    assert asked(tmp_path, "grype") == f"oci-archive:{tmp_path}/image.tar --output json --quiet"
    assert "GRYPE_DB_AUTO_UPDATE=false" in (tmp_path / "programs" / "grype.env").read_text()


def test_docker_scout(with_program: MakeProgram, tmp_path: Path) -> None:
    session = with_program("docker", SCOUT)
    assert scanned(session, tmp_path) == (
        Finding("CVE-2023-45853", "zlib", "1:1.2.13.dfsg-1", "", Severity.CRITICAL, "docker-scout"),
    )
    assert asked(tmp_path, "docker") == f"scout cves --format sarif oci-dir://{tmp_path}"
    with pytest.raises(NetworkError, match="without the network"):
        installed_scanner(replace(session, offline=True), "docker-scout")
    assert installed_scanner(replace(session, offline=True)) is None


def test_trivy_is_kept_from_the_network(with_program: MakeProgram, tmp_path: Path) -> None:
    scanned(replace(with_program("trivy", TRIVY), offline=True), tmp_path)
    assert "--offline-scan --skip-db-update" in asked(tmp_path, "trivy")


def test_a_scanner_that_is_not_there_is_told(with_program: MakeProgram) -> None:
    session = with_program("grype", GRYPE)
    with pytest.raises(LightshipError, match="trivy is not installed"):
        installed_scanner(session, "trivy")
    found = installed_scanner(session)
    assert found is not None and found.name == "grype"


def test_a_scanner_that_fails_is_quoted(with_program: MakeProgram, tmp_path: Path) -> None:
    with pytest.raises(LightshipError, match=r"status 3: no space for the database") as caught:
        scanned(with_program("grype", GRYPE, 3, "no space for the database"), tmp_path)
    assert "grype oci-dir:" in (caught.value.hint or "")


@pytest.mark.parametrize("report", ["", "not JSON", "{}", "[]", "[" * 5000, '{"matches": 7, "runs": []}'])
@pytest.mark.parametrize("name", ["trivy", "grype", "docker"])
def test_a_report_that_is_none_is_not_taken_for_a_clean_one(
    with_program: MakeProgram, tmp_path: Path, name: str, report: str
) -> None:
    with pytest.raises(LightshipError, match="not understood"):
        scanned(with_program(name, report), tmp_path)


def test_what_nobody_has_rated_passes_no_gate() -> None:
    findings = sorted_findings(
        Finding(f"CVE-2025-{severity:04}", "a", "1", "", severity, "trivy") for severity in Severity
    )
    assert [each.severity for each in findings] == [4, 3, 2, 1, 0]
    assert [each.severity for each in failing(findings, Severity.HIGH)] == [4, 3, 0]
    assert len(failing(findings, Severity.LOW)) == 5
