"""The vulnerability scanners that users have: how each is asked, and what its answer means.

trivy, grype and docker scout read an OCI layout or an archive without any engine. Their answers are JSON, of which
only the fields needed here are read: trivy's report, grype's matches, and the SARIF of docker scout.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import msgspec

from lightship.errors import LightshipError, NetworkError
from lightship.session import Session
from lightship.supply.finding import Finding, Severity, sorted_findings

MAX_REPORT = 256 << 20  # bytes; a large image's report has some 20 MB
_SHOWN = 2000  # characters of what a scanner says when it fails


@dataclass(frozen=True)
class Scanner:
    """One scanner.

    Attributes:
        name: As users write it after --scanner.
        command: How it is asked about a path, and whether that is a layout; without the network where it can.
        read: What its report says.
        offline: Variables that keep it from the network; None where it cannot do without.
        probe: A command that ends well only where it is installed, for plugins of another program.
    """

    name: str
    command: Callable[[Path, bool, bool], tuple[str, ...]]
    read: Callable[[bytes], Iterator[Finding]]
    offline: Mapping[str, str] | None
    probe: tuple[str, ...] = ()


def installed_scanner(session: Session, wanted: str | None = None) -> Scanner | None:
    """The scanner that is wanted, or the first that is installed and can do what the session allows.

    Raises: `LightshipError` where the wanted one is not installed, `NetworkError` where it needs the network.
    """
    for scanner in SCANNERS:
        if wanted not in (None, scanner.name):
            continue
        if not _is_installed(scanner, session):
            if wanted:
                raise LightshipError(
                    f"The scanner {wanted} is not installed, or not on PATH.",
                    hint="Install it, or leave --scanner away to take what there is.",
                )
        elif session.offline and scanner.offline is None:
            if wanted:
                raise NetworkError(f"{wanted} cannot scan without the network.", hint="Run without --offline.")
        else:
            return scanner
    return None


def scan_path(scanner: Scanner, path: Path, session: Session) -> tuple[Finding, ...]:
    """What a scanner finds in a layout (a directory) or an archive (a file).

    Raises: `LightshipError` where it fails, or says what is not understood.
    """
    environ = {**session.environ, **(scanner.offline or {} if session.offline else {})}
    command = scanner.command(path, path.is_dir(), session.offline)
    with session.progress.task(f"Scanning with {scanner.name}"), tempfile.TemporaryFile() as report:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=report, stderr=subprocess.PIPE, env=environ, check=False
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-_SHOWN:]
            raise LightshipError(
                f"{scanner.name} ended with status {done.returncode}: {said or 'it said nothing'}",
                hint=f"Try it yourself: {' '.join(command)}",
            )
        report.seek(0)
        content = report.read(MAX_REPORT + 1)
    try:
        if len(content) > MAX_REPORT:
            raise ValueError(f"it has more than {MAX_REPORT} bytes")
        return sorted_findings(scanner.read(content))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise LightshipError(
            f"The report of {scanner.name} is not understood: {error}.",
            hint="A version of it that is newer than this version of Lightship may be the cause.",
        ) from error


def _is_installed(scanner: Scanner, session: Session) -> bool:
    program = scanner.probe[0] if scanner.probe else scanner.name
    if shutil.which(program, path=session.environ.get("PATH")) is None:
        return False
    if not scanner.probe:
        return True
    done = subprocess.run(
        scanner.probe,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(session.environ),
        check=False,
    )
    return done.returncode == 0


# trivy (its documentation: Reporting, JSON)


def _ask_trivy(path: Path, _: bool, offline: bool) -> tuple[str, ...]:
    quiet = ("--quiet", "--format", "json", "--scanners", "vuln")
    cached = ("--offline-scan", "--skip-db-update", "--skip-java-db-update") if offline else ()
    return ("trivy", "image", *quiet, *cached, "--input", str(path))


class _TrivyVulnerability(msgspec.Struct, frozen=True, rename="pascal"):
    vulnerability_id: str = msgspec.field(name="VulnerabilityID")
    pkg_name: str
    installed_version: str = ""
    fixed_version: str = ""
    severity: str = ""


class _TrivyResult(msgspec.Struct, frozen=True, rename="pascal"):
    vulnerabilities: list[_TrivyVulnerability] | None = None


class _TrivyReport(msgspec.Struct, frozen=True, rename="pascal"):
    schema_version: int  # so that another document is not taken for a report without findings
    results: list[_TrivyResult] | None = None


def _read_trivy(content: bytes) -> Iterator[Finding]:
    for result in msgspec.json.decode(content, type=_TrivyReport).results or ():
        for each in result.vulnerabilities or ():
            severity = Severity.parse(each.severity)
            fixed = each.fixed_version
            yield Finding(each.vulnerability_id, each.pkg_name, each.installed_version, fixed, severity, "trivy")


# grype (its documentation: output formats, json)


def _ask_grype(path: Path, layout: bool, _: bool) -> tuple[str, ...]:
    return ("grype", f"{'oci-dir' if layout else 'oci-archive'}:{path}", "--output", "json", "--quiet")


class _GrypeFix(msgspec.Struct, frozen=True):
    versions: list[str] | None = None


class _GrypeVulnerability(msgspec.Struct, frozen=True):
    id: str
    severity: str = ""
    fix: _GrypeFix = _GrypeFix()


class _GrypeArtifact(msgspec.Struct, frozen=True):
    name: str
    version: str = ""


class _GrypeMatch(msgspec.Struct, frozen=True):
    vulnerability: _GrypeVulnerability
    artifact: _GrypeArtifact


class _GrypeReport(msgspec.Struct, frozen=True):
    matches: list[_GrypeMatch]


def _read_grype(content: bytes) -> Iterator[Finding]:
    for match in msgspec.json.decode(content, type=_GrypeReport).matches:
        found, package = match.vulnerability, match.artifact
        fixed = ", ".join(found.fix.versions or ())
        yield Finding(found.id, package.name, package.version, fixed, Severity.parse(found.severity), "grype")


# docker scout (SARIF 2.1.0, with its own properties of rules)


def _ask_scout(path: Path, layout: bool, _: bool) -> tuple[str, ...]:
    return ("docker", "scout", "cves", "--format", "sarif", f"{'oci-dir' if layout else 'archive'}://{path}")


class _ScoutProperties(msgspec.Struct, frozen=True):
    purls: list[str] | None = None
    fixed_version: str = ""
    severity: str = msgspec.field(name="cvssV3_severity", default="")


class _ScoutRule(msgspec.Struct, frozen=True):
    id: str
    properties: _ScoutProperties = _ScoutProperties()


class _ScoutDriver(msgspec.Struct, frozen=True):
    rules: list[_ScoutRule] | None = None


class _ScoutTool(msgspec.Struct, frozen=True):
    driver: _ScoutDriver


class _ScoutRun(msgspec.Struct, frozen=True):
    tool: _ScoutTool


class _ScoutReport(msgspec.Struct, frozen=True):
    runs: Annotated[list[_ScoutRun], msgspec.Meta(min_length=1)]


def _read_scout(content: bytes) -> Iterator[Finding]:
    for run in msgspec.json.decode(content, type=_ScoutReport).runs:
        for rule in run.tool.driver.rules or ():
            found = rule.properties
            fixed = "" if found.fixed_version == "not fixed" else found.fixed_version
            for purl in found.purls or ("",):
                name, version = _named(purl)
                yield Finding(rule.id, name, version, fixed, Severity.parse(found.severity), "docker-scout")


def _named(purl: str) -> tuple[str, str]:
    """Name and version of a package URL.

    >>> _named("pkg:deb/debian/zlib@1%3A1.2.13?os_name=debian")
    ('zlib', '1:1.2.13')
    """
    path, _, version = purl.partition("?")[0].partition("#")[0].rpartition("@")
    return unquote(path.rpartition("/")[2]), unquote(version)


SCANNERS = (
    Scanner("trivy", _ask_trivy, _read_trivy, {}),
    Scanner(
        "grype",
        _ask_grype,
        _read_grype,
        {"GRYPE_DB_AUTO_UPDATE": "false", "GRYPE_CHECK_FOR_APP_UPDATE": "false", "GRYPE_DB_VALIDATE_AGE": "false"},
    ),
    Scanner("docker-scout", _ask_scout, _read_scout, None, ("docker", "scout", "version")),
)
