"""`make bench-build`: Lightship against the textbook Dockerfile on a real Docker engine, the same app, one run.

`--app iris` is a scikit-learn model behind FastAPI, `--app text` a PyTorch text classifier. For each round,
alternating: a cold build (every cache empty, the base image there for Docker because it always is), a build after one
small dependency was bumped, after a line of code was changed, and with nothing changed. Then the sizes of both images
and the peak memory of a build. Prints a table and the bars; `--json FILE` keeps the figures.

The base image for Docker is a stand-in for python:3.11-slim, made from Debian packages by mmdebstrap.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bench.apps import APPS, LIGHTSHIP, App, empty_caches
from bench.docker import Docker, standin_base
from bench.measure import Run, median, timed
from bench.wheels import served_wheels

SCENARIOS = ("cold", "bump", "code", "no-op")
NOTHING_CHANGED = 0.5  # seconds; the bar for a build of nothing


@dataclass
class Figures:
    """What was measured for one of the two."""

    runs: dict[str, list[Run]] = field(default_factory=lambda: {name: [] for name in SCENARIOS})
    phases: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {name: [] for name in SCENARIOS})
    unpacked: int = 0
    compressed: int = 0

    def seconds(self, scenario: str) -> float:
        return median(self.runs[scenario])


def lightship_round(work: Path, figures: Figures, app: App, *, memory: bool = False) -> Path:
    """All scenarios once, beginning with empty caches. The archive of the last image, for Docker to load."""
    environ = empty_caches(work / "caches")
    project = app.fresh(work / "lightship")
    for scenario in SCENARIOS:
        app.change(project, scenario)
        run = timed([str(LIGHTSHIP), "build", str(project), "--json"], cwd=work, environ=environ, memory=memory)
        built = json.loads(run.output)
        figures.runs[scenario].append(run)
        figures.phases[scenario].append(built["seconds"])
        _tell("lightship", scenario, run)
    figures.compressed = built["size"]
    archive = work / "image.tar"
    timed([str(LIGHTSHIP), "build", str(project), "-o", str(archive), "--name", "bench"], cwd=work, environ=environ)
    return archive


def docker_round(work: Path, figures: Figures, app: App, docker: Docker, base: str) -> None:
    """The same by `docker build`."""
    docker.forget_builds()
    project = app.fresh(work / "docker")
    for scenario in SCENARIOS:
        app.change(project, scenario)
        run = docker.build(project, tag="bench:textbook", base=base)
        figures.runs[scenario].append(run)
        _tell("docker", scenario, run)
    figures.unpacked = docker.image_size("bench:textbook")


def _tell(who: str, scenario: str, run: Run) -> None:
    print(f"{who:10} {scenario:6} {run.seconds:7.2f} s", file=sys.stderr, flush=True)


def memory_peak(work: Path, app: App) -> int:
    """Peak memory of a cold build in bytes, uv's and the compilers' included. Sampling slows it: it is not timed."""
    figures = Figures()
    lightship_round(work, figures, app, memory=True)
    return max(run.peak_memory for run in figures.runs["cold"])


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--app", choices=APPS, default="iris")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    app = APPS[options.app]
    app.prepare()
    ours, theirs = Figures(), Figures()
    with tempfile.TemporaryDirectory(prefix="bench-build-") as temporary, served_wheels() as links:
        work = Path(temporary)
        docker = Docker.of_environment(links)
        base = standin_base(docker, work)
        for _ in range(options.rounds):
            archive = lightship_round(work, ours, app)
            docker_round(work, theirs, app, docker, base)
        docker.call("load", "--input", str(archive))  # one engine counts both
        ours.unpacked = docker.image_size("bench:latest")
        peak = memory_peak(work, app)
    report(ours, theirs, peak, app)
    if options.json:
        options.json.write_text(json.dumps(document(ours, theirs, peak), indent=2) + "\n")


def report(ours: Figures, theirs: Figures, peak: int, app: App) -> None:
    """The table. Ratios of seconds are Docker's over ours; of sizes, ours over Docker's."""
    bars = {"cold": f"{app.bars.cold:g}x", "bump": f"{app.bars.bump:g}x", "no-op": f"<= {NOTHING_CHANGED} s"}
    print(f"{'':24}{'Lightship':>12}{'Docker':>12}{'ratio':>10}{'bar':>10}")
    for scenario in SCENARIOS:
        mine, other = ours.seconds(scenario), theirs.seconds(scenario)
        bar = bars.get(scenario, "")
        print(f"{scenario + ' build, s':24}{mine:12.2f}{other:12.2f}{other / mine:9.1f}x{bar:>10}")
    mine, other, bar = ours.unpacked / 1e6, theirs.unpacked / 1e6, f"<= {app.bars.size}x"
    print(f"{'image, MB unpacked':24}{mine:12.1f}{other:12.1f}{mine / other:9.2f}x{bar:>10}")
    print(f"{'image, MB to pull':24}{ours.compressed / 1e6:12.1f}")
    bar = f"<= {app.bars.memory / 1e6:.0f}" if app.bars.memory else ""
    print(f"{'peak memory, MB':24}{peak / 1e6:12.1f}{'':22}{bar:>10}")
    for scenario in ("cold", "bump"):
        phases = ours.phases[scenario][-1]
        print(f"{scenario}: " + " · ".join(f"{name} {seconds:.2f} s" for name, seconds in phases.items()))


def document(ours: Figures, theirs: Figures, peak: int) -> dict[str, object]:
    """The figures for machines: every run, not only the medians."""
    return {
        "seconds": {
            name: {scenario: [run.seconds for run in figures.runs[scenario]] for scenario in SCENARIOS}
            for name, figures in (("lightship", ours), ("docker", theirs))
        },
        "phases": ours.phases,
        "bytes": {"lightship": ours.unpacked, "docker": theirs.unpacked, "lightship_to_pull": ours.compressed},
        "peak_memory": peak,
    }


if __name__ == "__main__":
    main()
