"""`make bench-delivery`: build and push by Lightship against `docker build` and `docker push`, the same app, one run.

For each round, alternating: with every cache empty, the application is built and pushed into a registry that is empty
(Docker has its base image already); then a line of code is changed, and it is built and pushed again. The registry is
Debian's docker-registry on loopback. Prints seconds (medians), their ratio, and the bytes that Lightship sent.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from statistics import median

from bench.apps import APPS, LIGHTSHIP, App, empty_caches
from bench.docker import Docker, standin_base
from bench.measure import timed
from bench.registry import registry
from bench.wheels import served_wheels

SCENARIOS = ("cold", "code")
COLD, CHANGED_SECONDS, CHANGED_BYTES = 4, 1.0, 100_000  # the bars
Seconds = dict[str, list[float]]


def lightship_round(work: Path, app: App, compression: str, seconds: Seconds, sent: dict[str, int]) -> None:
    """Build and push from nothing, then after a change of code; `sent` gets the bytes of the largest push."""
    environ = empty_caches(work / "caches")
    project = app.fresh(work / "lightship", compression=compression)
    with registry(work / "registry") as address:
        for scenario in SCENARIOS:
            app.change(project, scenario)
            command = [str(LIGHTSHIP), "push", f"{address}/bench/{app.name}:1", str(project), "--json"]
            run = timed(command, cwd=work, environ=environ)
            seconds[scenario].append(run.seconds)
            sent[scenario] = max(sent.get(scenario, 0), json.loads(run.output)["sent_bytes"])
    shutil.rmtree(work / "registry")


def docker_round(work: Path, app: App, docker: Docker, base: str, seconds: Seconds) -> None:
    """The same by Docker."""
    docker.forget_builds()
    project = app.fresh(work / "docker")
    with registry(work / "registry") as address:
        for scenario in SCENARIOS:
            app.change(project, scenario)
            tag = f"{address}/bench/{app.name}:1"
            seconds[scenario].append(docker.build(project, tag=tag, base=base).seconds + docker.push(tag).seconds)
        docker.call("image", "rm", "--force", tag)
    shutil.rmtree(work / "registry")


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--app", choices=APPS, default="text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compression", choices=("zstd", "gzip", "none"), default="zstd", help="of our layers")
    options = parser.parse_args()
    app = APPS[options.app]
    app.prepare()
    ours: Seconds = {name: [] for name in SCENARIOS}
    theirs: Seconds = {name: [] for name in SCENARIOS}
    sent: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="bench-delivery-") as temporary, served_wheels() as links:
        work = Path(temporary)
        docker = Docker.of_environment(links)
        base = standin_base(docker, work)
        for _ in range(options.rounds):
            lightship_round(work, app, options.compression, ours, sent)
            docker_round(work, app, docker, base, theirs)
    print(f"{'build + push, s':24}{'Lightship':>12}{'Docker':>12}{'ratio':>10}{'bar':>10}")
    for scenario, bar in zip(SCENARIOS, (f"{COLD}x", f"<= {CHANGED_SECONDS:g} s"), strict=True):
        mine, other = median(ours[scenario]), median(theirs[scenario])
        print(f"{scenario:24}{mine:12.2f}{other:12.2f}{other / mine:9.1f}x{bar:>10}")
    print(f"{'sent at first, MB':24}{sent['cold'] / 1e6:12.1f}")
    print(f"{'sent after code, kB':24}{sent['code'] / 1e3:12.1f}{'':22}{f'< {CHANGED_BYTES / 1e3:g}':>10}")


if __name__ == "__main__":
    main()
