"""`make bench-build`: Lightship against the textbook Dockerfile on a real Docker engine, the same app, one run.

For each round, alternating: a cold build (every cache empty, the base image there for Docker because it always is), a
build after one small dependency was bumped, after a line of code was changed, and with nothing changed. Then the
sizes of both images and the peak memory of a build. Prints a table and the bars; `--json FILE` keeps the figures.

The base image for Docker is a stand-in for python:3.11-slim, made from Debian packages by mmdebstrap.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bench.docker import Docker, standin_base
from bench.measure import Run, median, timed

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "iris-fastapi"
BUMP = ("joblib==1.5.2", "joblib==1.5.1")
SCENARIOS = ("cold", "bump", "code", "no-op")


@dataclass
class Figures:
    """What was measured for one of the two."""

    runs: dict[str, list[Run]] = field(default_factory=lambda: {name: [] for name in SCENARIOS})
    unpacked: int = 0
    compressed: int = 0

    def seconds(self, scenario: str) -> float:
        return median(self.runs[scenario])


def fresh_project(directory: Path) -> Path:
    """A copy of the example that the scenarios may change, without a lock: a person's first build."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("lightship.lock", "__pycache__"))
    shutil.copy(ROOT / "bench" / "textbook" / "Dockerfile", directory / "Dockerfile")
    (directory / ".dockerignore").write_text("Dockerfile\n.dockerignore\ntrain.py\n")
    return directory


def change(project: Path, scenario: str) -> None:
    """Make the change that the scenario is about."""
    if scenario == "bump":
        path = project / "requirements.txt"
        text = path.read_text()
        assert BUMP[0] in text, f"{path} does not pin {BUMP[0]}"
        path.write_text(text.replace(*BUMP))
    elif scenario == "code":
        with (project / "serve.py").open("a") as file:
            file.write("# changed\n")


def lightship_round(work: Path, figures: Figures, *, memory: bool) -> None:
    caches = work / "caches"
    shutil.rmtree(caches, ignore_errors=True)
    project = fresh_project(work / "lightship")
    environ = {**os.environ, "LIGHTSHIP_CACHE": str(caches / "lightship"), "UV_CACHE_DIR": str(caches / "uv")}
    command = [str(Path(sys.executable).parent / "lightship"), "build", str(project), "--json"]
    for scenario in SCENARIOS:
        change(project, scenario)
        run = timed(command, cwd=work, environ=environ, memory=memory)
        figures.runs[scenario].append(run)
    built = json.loads(run.output)
    figures.unpacked, figures.compressed = built["unpacked_size"], built["size"]


def docker_round(work: Path, figures: Figures, docker: Docker, base: str) -> None:
    docker.forget_builds()
    project = fresh_project(work / "docker")
    for scenario in SCENARIOS:
        change(project, scenario)
        figures.runs[scenario].append(docker.build(project, tag="bench:textbook", base=base))
    figures.unpacked = docker.image_size("bench:textbook")


def memory_peak(work: Path) -> int:
    """Peak memory of a cold build in bytes, uv's and the compilers' included. Sampling slows it: it is not timed."""
    figures = Figures()
    lightship_round(work, figures, memory=True)
    return max(run.peak_memory for run in figures.runs["cold"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    subprocess.run([sys.executable, str(EXAMPLE / "train.py"), "--if-missing"], check=True)
    ours, theirs = Figures(), Figures()
    docker = Docker.of_environment()
    with tempfile.TemporaryDirectory(prefix="lightship-bench-") as temporary:
        work = Path(temporary)
        base = standin_base(docker, work)
        for number in range(options.rounds):
            lightship_round(work, ours, memory=False)
            docker_round(work, theirs, docker, base)
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
        peak = memory_peak(work)
    report(ours, theirs, peak)
    if options.json:
        options.json.write_text(json.dumps(document(ours, theirs, peak), indent=2) + "\n")


def report(ours: Figures, theirs: Figures, peak: int) -> None:
    print(f"{'':24}{'Lightship':>12}{'Docker':>12}{'ratio':>10}{'bar':>10}")
    bars = {"cold": "3x", "bump": "10x", "code": "", "no-op": "<= 0.5 s"}
    for scenario in SCENARIOS:
        mine, other = ours.seconds(scenario), theirs.seconds(scenario)
        row = f"{scenario + ' build, s':24}{mine:12.2f}{other:12.2f}{other / mine:9.1f}x{bars[scenario]:>10}"
        print(row)
    size = ours.unpacked / theirs.unpacked
    print(
        f"{'image, MB unpacked':24}{ours.unpacked / 1e6:12.1f}{theirs.unpacked / 1e6:12.1f}{size:9.2f}x{'0.5x':>10}"
    )
    print(f"{'image, MB to pull':24}{ours.compressed / 1e6:12.1f}")
    print(f"{'peak memory, MB':24}{peak / 1e6:12.1f}{'':22}{'<= 300':>10}")


def document(ours: Figures, theirs: Figures, peak: int) -> dict[str, object]:
    """The figures for machines: every run, not only the medians."""
    return {
        "seconds": {
            name: {scenario: [run.seconds for run in figures.runs[scenario]] for scenario in SCENARIOS}
            for name, figures in (("lightship", ours), ("docker", theirs))
        },
        "bytes": {"lightship": ours.unpacked, "docker": theirs.unpacked, "lightship_to_pull": ours.compressed},
        "peak_memory": peak,
    }


if __name__ == "__main__":
    main()
