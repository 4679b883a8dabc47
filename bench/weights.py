"""`make bench-weights`: an image with large weights: built against sha256sum, pushed and pulled against skopeo.

The weights are synthetic: four files of safetensors, 10 GB together (`--gigabytes`), of bytes that do not compress.
For each round, alternating: sha256sum reads the files, and Lightship builds the image with nothing remembered of
them; then both tools push the same layout to an empty docker-registry, and pull it from there. Needs four times the
weights' size of free disk. Prints seconds (medians), ratios, our peak memory, and what the cache grew by.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.apps import LIGHTSHIP
from bench.measure import Run, median, timed
from bench.registry import registry

FILES = 4
SERVER = "async def app(scope, receive, send): ...\n"
_BLOCK = 1 << 24  # bytes
_COPY = ("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests")


@dataclass(frozen=True)
class Place:
    """Where the benchmark works: its folder, and the environment of what it calls."""

    scratch: Path
    environ: dict[str, str]

    def run(self, *command: object, memory: bool = False) -> Run:
        return timed([str(each) for each in command], cwd=self.scratch, environ=self.environ, memory=memory)


def write_weights(folder: Path, gigabytes: float) -> list[Path]:
    """Files of safetensors with one tensor each. A random block is repeated, each time with another head."""
    folder.mkdir(parents=True)
    block = bytearray(random.Random(0).randbytes(_BLOCK))
    blocks = max(1, int(gigabytes * 1e9 / FILES / _BLOCK))
    paths = []
    for number in range(FILES):
        path = folder / f"model-{number + 1:05}-of-{FILES:05}.safetensors"
        size = blocks * _BLOCK
        tensor = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}
        header = json.dumps({f"layers.{number}.weight": tensor}).encode()
        header += b" " * (-len(header) % 8)
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for position in range(blocks):
                block[:8] = (number << 32 | position).to_bytes(8, "little")
                file.write(block)
        os.utime(path, (1, 1))  # a file that was written just now is not trusted to stay
        paths.append(path)
    return paths


def forget(cache: Path) -> None:
    """Let the cache know nothing of the weights any more; all else stays."""
    for kind in ("file-digests", "assemblies", "weights"):
        shutil.rmtree(cache / "v1" / "records" / kind, ignore_errors=True)


def builds(place: Place, project: Path, weights: list[Path], cache: Path, rounds: int) -> None:
    """Build against sha256sum over the same files."""
    ours: list[Run] = []
    theirs: list[Run] = []
    before = used(cache)
    for turn in range(rounds):
        for runs in (ours, theirs) if turn % 2 else (theirs, ours):
            if runs is theirs:
                runs.append(place.run("sha256sum", *weights))
            else:
                forget(cache)
                runs.append(place.run(LIGHTSHIP, "build", project, "-q", memory=True))
    show("build (sha256sum)", ours, theirs)
    print(f"  the cache grew by {(used(cache) - before) / 1e6:.1f} MB", flush=True)


def deliveries(place: Place, layout: Path, rounds: int) -> None:
    """Push and pull one layout by both tools."""
    pushes: tuple[list[Run], list[Run]] = ([], [])
    pulls: tuple[list[Run], list[Run]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            store = place.scratch / "registry"
            with registry(store) as address:
                name = f"{address}/bench/model:1"
                push: tuple[object, ...] = (*_COPY, "--dest-tls-verify=false", f"oci:{layout}", f"docker://{name}")
                if which == 0:
                    push = (LIGHTSHIP, "push", name, "--image", f"oci:{layout}", "-q")
                pushes[which].append(place.run(*push, memory=which == 0))
                pulls[which].append(_pull(place, name, ours=which == 0))
            shutil.rmtree(store)
    show("push (skopeo)", *pushes)
    show("pull (skopeo)", *pulls)


def _pull(place: Place, name: str, *, ours: bool) -> Run:
    target = place.scratch / "pulled"
    if not ours:
        skip = "--dest-oci-accept-uncompressed-layers"
        run = place.run(*_COPY, skip, "--src-tls-verify=false", f"docker://{name}", f"oci:{target}:1")
        shutil.rmtree(target)
        return run
    cache = place.scratch / "pulled-cache"
    elsewhere = Place(place.scratch, {**place.environ, "LIGHTSHIP_CACHE": str(cache)})
    run = elsewhere.run(LIGHTSHIP, "pull", name, "--layout", target, "-q", memory=True)
    shutil.rmtree(target)
    shutil.rmtree(cache)
    return run


def show(what: str, ours: list[Run], theirs: list[Run]) -> None:
    """One line: seconds, how many times as fast, peak memory."""
    mine, other = median(ours), median(theirs)
    peak = max(run.peak_memory for run in ours) / 1e6
    print(f"{what:20} {mine:7.2f} s ({other:7.2f} s) {other / mine:5.2f}x   peak {peak:.0f} MB", flush=True)


def used(folder: Path) -> int:
    """Bytes on disk below a folder."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Parse, write the weights, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--only", choices=["build", "delivery"])
    options = parser.parse_args()
    for tool in ("docker-registry", "skopeo"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed (scripts/install-tools.sh)")
    with tempfile.TemporaryDirectory(prefix="bench-weights-") as directory:
        scratch = Path(directory)
        cache = scratch / "cache"
        place = Place(scratch, {**os.environ, "LIGHTSHIP_CACHE": str(cache)})
        project = scratch / "project"
        project.mkdir()
        (project / "serve.py").write_text(SERVER)
        (project / "lightship.toml").write_text('[serve]\napp = "serve:app"\n')
        (project / "requirements.txt").write_text("")
        place.run(LIGHTSHIP, "build", project, "-q")  # base and runtime: not what is measured
        weights = write_weights(project / "model", options.gigabytes)
        print(f"{sum(path.stat().st_size for path in weights) / 1e9:.1f} GB in {FILES} files", flush=True)
        steps: list[Callable[[], None]] = []
        if options.only != "delivery":
            steps.append(lambda: builds(place, project, weights, cache, options.rounds))
        if options.only != "build":
            layout = scratch / "layout"
            steps.append(lambda: place.run(LIGHTSHIP, "build", project, "--layout", layout, "-q") and None)
            steps.append(lambda: shutil.rmtree(project / "model"))  # disk: the layout has the bytes now
            steps.append(lambda: deliveries(place, layout, options.rounds))
        for step in steps:
            step()


if __name__ == "__main__":
    main()
