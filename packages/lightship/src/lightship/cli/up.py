"""`lightship up`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightship.cli import options
from lightship.cli.build import document, show
from lightship.cli.display import Display
from lightship.cli.serving import serve_until_interrupted

if TYPE_CHECKING:
    from lightship.build import Build
    from lightship.verify import Proof


@click.command()
@options.project
@options.locking
@options.running
@click.option("--once", is_flag=True, help="Stop after the answer instead of serving until Ctrl-C.")
@options.output
def command(
    target: Path,
    offline: bool,
    locked: bool,
    upgrade: bool,
    cache_from: tuple[str, ...],
    engine: str,
    port: int | None,
    once: bool,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Build, run, ask the golden request, compare the answer; then serve until Ctrl-C.

    \b
    Examples:
      lightship up                       the project in this folder
      lightship up model.joblib          a model and the requirements.txt beside it
      lightship up serve.py              your own FastAPI server
      lightship up --once --engine docker
    """
    from lightship.build import build
    from lightship.oci import Platform, image_for
    from lightship.run import RunOptions, choose, engines
    from lightship.verify import BRIEF, prove

    display = Display(quiet, as_json)
    project = options.open_project(target, **chosen)
    with options.session(display, offline=offline) as session:
        runner = choose(engines(session), None if engine == "auto" else engine)
        reused = options.parse_references(cache_from)
        built = build(project, session, locked=locked, upgrade=upgrade, cache_from=reused)
        for warning in built.plan.warnings:
            display.warn(warning)
        server, test = built.plan.server.value, project.settings.test
        proof = prove(
            image_for(built.image, Platform.of_this_machine()),
            runner,
            session,
            golden=built.plan.proof.value,
            health=server.health,
            timeout=test.timeout,
            options=RunOptions(port=port, environment=BRIEF.environment if once else ()),
        )
    try:
        url = f"http://127.0.0.1:{proof.container.port}"
        if as_json:
            display.document(
                {
                    **document(built),
                    "engine": runner.name,
                    "url": url,
                    "seconds_to_ready": proof.seconds_to_ready,
                    "seconds_to_answer": proof.seconds_to_answer,
                    "proven": proof.golden,
                    "answer": proof.answer,
                }
            )
            sys.stdout.flush()
        else:
            show(display, built)
            _tell(display, built, runner.name, url, proof, once=once)
        if not once:
            serve_until_interrupted(proof.container)
    finally:
        proof.container.stop()


def _tell(display: Display, built: Build, engine: str, url: str, proof: Proof, *, once: bool) -> None:
    import json

    ready = f"ready after {proof.seconds_to_ready:.2f} s"
    if proof.golden:
        display.line(f"[green]proven[/] in {engine}: {ready}, golden answer after {proof.seconds_to_answer:.2f} s")
        display.line(f"answer {json.dumps(proof.answer)}")
    else:
        display.line(f"[green]healthy[/] in {engine}: {ready}; a golden.json would prove its answer too")
    display.line(f"[dim]run:  lightship run {built.reference}[/]")
    display.line("[dim]file: lightship build -o image.tar[/]")
    display.line(f"[dim]push: lightship push REGISTRY/{built.reference}[/]")
    if not once:
        display.line(f"serving [bold]{url}[/]; Ctrl-C stops it")
