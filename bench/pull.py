"""`make bench-pull`: how long clean engines take to pull our image and Docker's own of the same app.

Both images are in the same docker-registry on loopback. Docker pulls ours with gzip and with plain layers (it knows
no zstd before version 23), containerd ours with zstd and with gzip; each against the image that `docker build` and
`docker push` made of the textbook Dockerfile. Pulls end when all is unpacked. Before each, the engine's store is
emptied, the base image included. Rounds alternate; prints medians and ratios.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.apps import APPS, LIGHTSHIP, App, empty_caches
from bench.containerd import Containerd
from bench.docker import Docker, standin_base
from bench.measure import Run, median, timed
from bench.registry import registry
from bench.wheels import served_wheels

BAR = 0.6  # of the time of Docker's own image
DOCKER = "textbook"


def publish(app: App, address: str, work: Path, docker: Docker) -> Mapping[str, str]:
    """Push the application in all forms; the references by form."""
    references = {form: f"{address}/bench/{form}:1" for form in (DOCKER, "gzip", "none", "zstd")}
    environ = empty_caches(work / "caches")
    for form in ("gzip", "none", "zstd"):
        project = app.fresh(work / "lightship", compression=form)
        timed([str(LIGHTSHIP), "push", references[form], str(project), "-q"], cwd=work, environ=environ)
    docker.build(app.fresh(work / "docker"), tag=references[DOCKER], base=standin_base(docker, work))
    docker.push(references[DOCKER])
    return references


def measure(
    title: str,
    pull: Callable[[str], Run],
    forget: Callable[[], None],
    references: Mapping[str, str],
    forms: tuple[str, ...],
    rounds: int,
) -> None:
    """Pull every form in every round, each into an empty store, and print the table."""
    runs: dict[str, list[Run]] = {form: [] for form in forms}
    for turn in range(rounds):
        for form in forms if turn % 2 else reversed(forms):
            forget()
            runs[form].append(pull(references[form]))
            print(f"{title} {form} {runs[form][-1].seconds:.2f} s", file=sys.stderr, flush=True)
    forget()
    other = median(runs[DOCKER])
    print(f"{title}: {DOCKER} image {other:.2f} s")
    for form in forms:
        if form != DOCKER:
            mine = median(runs[form])
            print(f"{title}: ours with {form:5} {mine:6.2f} s {mine / other:6.2f}x   bar <= {BAR}x", flush=True)


def main() -> None:
    """Parse, publish, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--app", choices=APPS, default="text")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    app = APPS[options.app]
    app.prepare()
    containerd = Containerd.of_environment()
    with tempfile.TemporaryDirectory(prefix="bench-pull-") as temporary, served_wheels() as links:
        work = Path(temporary)
        docker = Docker.of_environment(links)
        with registry(work / "registry") as address:
            all_forms = publish(app, address, work, docker)
            forms = (DOCKER, "gzip", "none")
            measure("docker", docker.pull, docker.forget_images, all_forms, forms, options.rounds)
            forms = (DOCKER, "zstd", "gzip")
            measure("containerd", containerd.pull, containerd.forget_images, all_forms, forms, options.rounds)


if __name__ == "__main__":
    main()
