"""`lightship scan`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightship.cli import options
from lightship.cli.display import Display

if TYPE_CHECKING:
    from lightship.oci.image import Built
    from lightship.session import Session
    from lightship.supply.finding import Finding

OSV = "osv"


@click.command()
@options.project
@click.option("--locked", is_flag=True, help="Fail where lightship.lock is stale or missing.")
@click.option("--image", metavar="NAME:TAG | oci:DIR | FILE", help="Scan what was built before; build nothing.")
@click.option(
    "--scanner",
    type=click.Choice(["trivy", "grype", "docker-scout", OSV]),
    help="What to scan with; the first that is installed else. osv asks for the wheels only.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["low", "medium", "high", "critical"]),
    help="End with exit code 9 where something is as bad as that, or rated by nobody.",
)
@options.output
def command(
    target: Path,
    offline: bool,
    locked: bool,
    image: str | None,
    scanner: str | None,
    fail_on: str | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Look for known vulnerabilities, with trivy, grype or docker scout, or in the OSV database without any of them.

    A scanner looks at the image, the base's packages included; OSV is asked about the wheels of the lock, or those
    that the image records.

    \b
    Examples:
      lightship scan --fail-on high              the project in this folder, built first
      lightship scan --image image.tar           what is in an archive
      lightship scan --scanner osv --locked      the wheels of the lock; nothing is built
    """
    from lightship.errors import VulnerabilityError
    from lightship.supply.finding import Severity, failing
    from lightship.supply.scanners import installed_scanner, scan_path

    if image is not None and (target != Path() or locked or any(chosen.values())):
        raise click.UsageError("--image scans what was built before; it takes no project and no options of one.")
    display = Display(quiet, as_json)
    with options.session(display, offline=offline) as session:
        found = None if scanner == OSV else installed_scanner(session, scanner)
        findings: tuple[Finding, ...]
        if found is None:
            from lightship.supply.osv import scan_wheels

            findings = scan_wheels(_wheels(target, image, session, locked, chosen), session)
        else:
            from lightship.supply.finding import sorted_findings

            with _stored(target, image, session, locked, chosen) as paths:
                findings = sorted_findings(each for path in paths for each in scan_path(found, path, session))
    threshold = Severity.parse(fail_on) if fail_on else None
    bad = failing(findings, threshold) if threshold else ()
    name = found.name if found else "OSV"
    if as_json:
        document = {"scanner": name, "fail_on": fail_on, "failed": bool(bad)}
        display.document({**document, "findings": [each.to_dict() for each in findings]})
        return VulnerabilityError.exit_code if bad else 0
    _show(display, findings, name)
    if bad:
        raise VulnerabilityError(
            f"{len(bad)} of {len(findings)} known vulnerabilities are at least {fail_on}, or rated by nobody.",
            hint="`lightship update` takes a newer base, `lightship update --wheels` newer wheels.",
        )
    return 0


def _show(display: Display, findings: tuple[Finding, ...], name: str) -> None:
    from rich.table import Table

    if findings:
        table = Table(box=None, pad_edge=False)
        for title in ("severity", "vulnerability", "package", "installed", "fixed in"):
            table.add_column(title, overflow="fold")
        for each in findings:
            cells = (str(each.severity), each.id, each.package, each.installed, each.fixed or "none yet")
            table.add_row(*map(options.plain, cells))
        display.table(table)
    counts: dict[str, int] = {}
    for each in findings:
        counts[str(each.severity)] = counts.get(str(each.severity), 0) + 1
    told = ", ".join(f"{count} {severity}" for severity, count in counts.items()) or "nothing known"
    display.line(f"{name}: {told}")


@contextmanager
def _stored(
    target: Path, image: str | None, session: Session, locked: bool, chosen: dict[str, Any]
) -> Iterator[list[Path]]:
    """Archives and whole layouts for a scanner to read, one for each platform."""
    from lightship.oci import write_layout

    if image is not None and Path(image).is_file():
        yield [Path(image)]
        return
    found: Built
    if image is not None:
        from lightship.cli.run import find_image

        found = find_image(image, session)
    else:
        from lightship.build import build

        found = build(options.open_project(target, **chosen), session, locked=locked).image
    with session.cache.temporary_directory() as directory:
        yield [
            write_layout(each, session.cache, directory / str(number), name="scanned:1")
            for number, each in enumerate(found.images)
        ]


def _wheels(
    target: Path, image: str | None, session: Session, locked: bool, chosen: dict[str, Any]
) -> list[tuple[str, str]]:
    """Names and versions: of the lock, which is brought up to date first, or of what an image records."""
    if image is not None:
        from lightship.contents import inspect_image, open_image

        owners = [each.owner for each in inspect_image(open_image(image, session)).packages]
        return [(owner.name, owner.version) for owner in owners if owner.kind == "python"]
    from lightship.locking import bring_up_to_date
    from lightship.oci import Platform
    from lightship.plan import make_plan

    plan = make_plan(options.open_project(target, **chosen))
    locks = [
        bring_up_to_date(plan, Platform.parse(text), session, locked=locked).lock for text in plan.platforms.value
    ]
    return [(wheel.name, wheel.version) for lock in locks for wheel in lock.wheels]
