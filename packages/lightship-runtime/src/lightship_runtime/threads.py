"""How many threads to use: what the container may use, not what the host has.

Numerical libraries start one thread per core of the host. In a container with a CPU quota most of them only wait
for one another; the loss is tenfold and more. So the quota is read before any library is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


def available_cpus(root: Path = Path("/")) -> int:
    """Whole CPUs that this process may use: the CPU set and every cgroup's quota, rounded down, at least 1."""
    cpus = float(len(os.sched_getaffinity(0)))
    return max(1, int(min([cpus, *_quotas(root)])))


def limit_threads(environ: MutableMapping[str, str], cpus: int) -> None:
    """Tell the numerical libraries, which read these variables when they are imported; what the user set stays."""
    for name in VARIABLES:
        environ.setdefault(name, str(cpus))


def set_threads(environ: MutableMapping[str, str], threads: int, other: Mapping[str, str] | None = None) -> None:
    """Tell the numerical libraries that are imported from now on; `other` has variables with values of their own."""
    for name in VARIABLES:
        environ[name] = (other or {}).get(name, str(threads))


def _quotas(root: Path) -> Iterator[float]:
    """The quota, in CPUs, of each cgroup that this process is in (kernel docs: cgroup-v2.rst, sched-bwc.rst)."""
    for line in (_read(root / "proc/self/cgroup") or "0::/").splitlines():
        _, controllers, name = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "/")
        inside = [part for part in name.split("/") if part not in ("", "..")]
        # In a container the path may be the host's, which does not exist here; the top directory then is ours.
        for depth in range(len(inside), -1, -1):
            if not controllers:
                group = root.joinpath("sys/fs/cgroup", *inside[:depth])
                quota, _, period = (_read(group / "cpu.max") or "").partition(" ")
            elif "cpu" in controllers.split(","):
                group = root.joinpath("sys/fs/cgroup/cpu", *inside[:depth])
                quota = _read(group / "cpu.cfs_quota_us") or ""
                period = _read(group / "cpu.cfs_period_us") or ""
            else:
                break
            if quota.isdigit() and period.isdigit() and int(period):
                yield int(quota) / int(period)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
