"""A real containerd for benchmarks, spoken to by its own client."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Run, timed


@dataclass(frozen=True)
class Containerd:
    """A reachable daemon."""

    environ: dict[str, str]

    @classmethod
    def of_environment(cls) -> Containerd:
        """The daemon that CONTAINERD_ADDRESS names; `scripts/with-containerd.sh` starts one and names it."""
        if not os.environ.get("CONTAINERD_ADDRESS"):
            raise SystemExit("This benchmark needs a containerd: scripts/with-containerd.sh COMMAND")
        return cls(dict(os.environ))

    def pull(self, reference: str) -> Run:
        """Pull and unpack into the default snapshotter."""
        return timed(["ctr", "images", "pull", "--plain-http", reference], cwd=Path("/"), environ=self.environ)

    def forget_images(self) -> None:
        """Delete every image; returns when the content and the unpacked layers are gone, too."""
        listed = self._call("images", "ls", "-q").split()
        if listed:
            self._call("images", "rm", "--sync", *listed)
        if left := self._call("snapshots", "ls").splitlines()[1:]:
            raise SystemExit(f"containerd still has {len(left)} unpacked layers; a pull would not be a clean one")

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(["ctr", *arguments], env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"ctr {' '.join(arguments)} failed: {done.stderr}")
        return done.stdout
