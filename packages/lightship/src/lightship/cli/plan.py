"""`lightship plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lightship.cli import options
from lightship.cli.display import Display


@click.command()
@options.project
@options.output
def command(target: Path, offline: bool, quiet: bool, as_json: bool, **chosen: Any) -> None:
    """Show every decision with its reason; fetch and build nothing.

    \b
    Examples:
      lightship plan                  the project in this folder
      lightship plan model.joblib     a model without any settings
      lightship plan --json           for programs
    """
    from lightship.plan import make_plan

    display = Display(quiet, as_json)
    plan = make_plan(options.open_project(target, **chosen))
    if as_json:
        display.document(
            {
                "project": plan.project.name,
                "decisions": [
                    {"name": d.name, "value": d.shown, "reason": d.reason, "evidence": list(d.evidence)}
                    for d in plan.decisions()
                ],
                "warnings": list(plan.warnings),
            }
        )
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Plan of {plan.project.name}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading, style in (("decision", "bold"), ("value", "cyan"), ("because", "")):
        table.add_column(heading, style=style, overflow="fold")
    for decision in plan.decisions():
        reason = Text(decision.reason)
        for line in decision.evidence:
            reason.append(f"\n{line}", style="dim")
        table.add_row(decision.name, Text(decision.shown), reason)
    display.table(table)
    for warning in plan.warnings:
        display.warn(warning)
