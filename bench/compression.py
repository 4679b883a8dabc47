"""`make bench-compression`: one image in every compression, pushed to an empty registry and pulled by clean engines.

For each round, alternating, each compression: `lightship push` to docker-registry on loopback, then `docker pull` and
`ctr images pull` (which unpacks) of what was pushed, into engines that have nothing of it. Docker before 23 is not
asked for zstd. Prints medians in seconds and the bytes to pull; the wire costs nothing here, so a slow one favours
the smaller form by its bytes. docs/compression.md draws the conclusions.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

import tomli_w

from bench.docker import Docker
from bench.measure import Run, median, timed
from bench.push import registry
from lightship.layers import Compression
from lightship.run.docker import FIRST_WITH_ZSTD

ROOT = Path(__file__).resolve().parent.parent
LIGHTSHIP = Path(sys.executable).parent / "lightship"
NAMESPACE = "bench"  # containerd's; Docker's images are in another
COLUMNS = ("push", "docker", "containerd")


def with_compression(project: Path, compression: Compression, target: Path) -> Path:
    """A copy of a project whose image has this compression, and a name that says so."""
    shutil.copytree(project, target, ignore=shutil.ignore_patterns("__pycache__"))
    file = target / "lightship.toml"
    settings = tomllib.loads(file.read_text())
    settings["image"] = {**settings.get("image", {}), "compression": compression.value, "name": name_of(compression)}
    file.write_text(tomli_w.dumps(settings))
    return target


def name_of(compression: Compression) -> str:
    return f"compression-{compression.value}"


def containerd_socket(environ: dict[str, str]) -> Path:
    """The containerd that the daemon of `scripts/with-dockerd.sh` started beside itself."""
    socket = Path(environ["DOCKER_HOST"].removeprefix("unix://")).parent / "exec" / "containerd" / "containerd.sock"
    if not socket.is_socket():
        raise SystemExit(f"There is no containerd at {socket}: run it by scripts/with-dockerd.sh.")
    return socket


def measure(compression: Compression, docker: Docker, scratch: Path) -> dict[str, Run]:
    """One push and the pulls of it; everything that they left is removed again."""
    found = {}
    place = scratch / "registry"
    with registry(place) as address:
        name = f"{address}/bench/image:1"
        push = [str(LIGHTSHIP), "push", name, "--image", f"{name_of(compression)}:latest", "--json"]
        found["push"] = timed(push, cwd=scratch, environ=docker.environ)
        version = int(docker.call("version", "--format", "{{.Server.Version}}").partition(".")[0])
        if compression is not Compression.ZSTD or version >= FIRST_WITH_ZSTD:
            found["docker"] = timed(["docker", "pull", "--quiet", name], cwd=scratch, environ=docker.environ)
            docker.call("image", "rm", "--force", name)
        client = ["ctr", "--address", str(containerd_socket(docker.environ)), "--namespace", NAMESPACE, "images"]
        found["containerd"] = timed([*client, "pull", "--plain-http", name], cwd=scratch, environ=docker.environ)
        subprocess.run([*client, "rm", "--sync", name], check=True, capture_output=True)
    shutil.rmtree(place)
    return found


def main() -> None:
    """Parse, build in every compression, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--project", type=Path, default=ROOT / "examples" / "iris")
    options = parser.parse_args()
    for tool in ("docker-registry", "ctr"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed (scripts/install-tools.sh)")
    docker = Docker.of_environment()
    runs: dict[Compression, dict[str, list[Run]]] = {each: defaultdict(list) for each in Compression}
    with tempfile.TemporaryDirectory(prefix="bench-compression-") as directory:
        scratch = Path(directory)
        docker.environ.setdefault("LIGHTSHIP_CACHE", str(scratch / "cache"))
        layouts = {}
        for compression in Compression:
            project = with_compression(options.project, compression, scratch / name_of(compression))
            layouts[compression] = scratch / f"layout-{compression.value}"
            build = [str(LIGHTSHIP), "build", str(project), "--layout", str(layouts[compression]), "-q"]
            timed(build, cwd=scratch, environ=docker.environ)
        for _ in range(options.rounds):
            for compression in Compression:
                for column, run in measure(compression, docker, scratch).items():
                    runs[compression][column].append(run)
        print(f"{'':10}{'MB to pull':>12}" + "".join(f"{column:>12}" for column in COLUMNS))
        for compression, found in runs.items():
            stored = sum(
                file.stat().st_size for file in (layouts[compression] / "blobs").rglob("*") if file.is_file()
            )
            cells = (f"{median(found[column]):.2f} s" if found[column] else "-" for column in COLUMNS)
            print(f"{compression.value:10}{stored / 1e6:12.1f}" + "".join(f"{cell:>12}" for cell in cells))


if __name__ == "__main__":
    main()
