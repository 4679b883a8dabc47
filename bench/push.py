"""`make bench-push`: pushes against `skopeo copy --preserve-digests` of the same layouts to the same registry.

Two images: examples/iris, and one plain layer of random bytes (1 GB, or `--megabytes`). For each round, alternating,
each tool pushes to a repository that does not exist yet. The registry is Debian's docker-registry, on the same disk.
Prints seconds (medians), their ratio, and the peak memory of our side.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.apps import LIGHTSHIP, ROOT
from bench.measure import Run, median, timed
from bench.registry import registry
from lightship.cache import Cache
from lightship.layers import Compression, TarWriter, materialise
from lightship.oci import Image, Settings, write_layout

BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class RandomBytes:
    """A layer with one file that nothing compresses, written in pieces."""

    megabytes: int
    kind: str = "weights"
    title: str = "random bytes"

    @property
    def key(self) -> str:
        return f"bench-random-{self.megabytes}"

    def write(self, tar: TarWriter) -> None:
        chance = random.Random(self.megabytes)
        for number in range(self.megabytes // 16):
            tar.content(f"app/part-{number:04}", chance.randbytes(16 * BLOCK), mode=0o644)


def measure(title: str, layout: Path, scratch: Path, environ: dict[str, str], rounds: int) -> None:
    """Push one layout by both tools, alternating, each time into a registry that is empty."""
    ours: list[Run] = []
    theirs: list[Run] = []
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
    for turn in range(rounds):
        for runs in (ours, theirs) if turn % 2 else (theirs, ours):
            place = scratch / "registry"
            with registry(place) as address:
                name = f"{address}/bench/image:1"
                command = (
                    [str(LIGHTSHIP), "push", name, "--image", f"oci:{layout}", "--json"]
                    if runs is ours
                    else [*copy, f"oci:{layout}", f"docker://{name}"]
                )
                runs.append(timed(command, cwd=scratch, environ=environ, memory=runs is ours))
            shutil.rmtree(place)
    mine, other = median(ours), median(theirs)
    peak = max(run.peak_memory for run in ours) / 1e6
    print(
        f"{title:24} lightship {mine:6.2f} s   skopeo {other:6.2f} s   "
        f"{other / mine:4.2f} times as fast   peak {peak:.0f} MB",
        flush=True,
    )


def main() -> None:
    """Parse, build, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1024)
    options = parser.parse_args()
    for tool in ("docker-registry", "skopeo"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed (scripts/install-tools.sh)")
    with tempfile.TemporaryDirectory(prefix="bench-push-") as directory:
        scratch = Path(directory)
        cache = Path(os.environ.get("LIGHTSHIP_CACHE") or scratch / "cache")
        environ = {**os.environ, "LIGHTSHIP_CACHE": str(cache)}
        layout = scratch / "iris"
        build = [str(LIGHTSHIP), "build", str(ROOT / "examples" / "iris"), "--layout", str(layout), "-q"]
        timed(build, cwd=scratch, environ=environ)
        measure("examples/iris", layout, scratch, environ, options.rounds)
        large = Cache(scratch / "large")
        layer = materialise(RandomBytes(options.megabytes), large, Compression.NONE)
        image = Image((layer,), Settings(entrypoint=("/bin/true",)))
        layout = write_layout(image, large, scratch / "layout", name="large:1")
        environ["LIGHTSHIP_CACHE"] = str(large.root)
        measure(f"{options.megabytes} MiB plain layer", layout, scratch, environ, options.rounds)


if __name__ == "__main__":
    main()
