"""The container's share of the CPUs, read from cgroup files as kernels write them."""

import os
from pathlib import Path

import pytest

from lightship_runtime.threads import available_cpus, limit_threads

CPUS = len(os.sched_getaffinity(0))


def _system(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, CPUS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, CPUS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        # A pod's limit is on the parent of the container's group.
        ({"proc/self/cgroup": "0::/pod/box\n", "sys/fs/cgroup/pod/cpu.max": "100000 100000\n"}, 1),
        # A container sees its own group at the top, but the host's name for it.
        ({"proc/self/cgroup": "0::/../host/name\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/box\n2:memory:/box\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            CPUS,
        ),
        ({"proc/self/cgroup": "garbage", "sys/fs/cgroup/cpu.max": "also garbage"}, CPUS),
    ],
)
def test_the_quota_bounds_the_cpus(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    assert available_cpus(_system(tmp_path, files)) == cpus


def test_what_the_user_set_stays() -> None:
    environ = {"OMP_NUM_THREADS": "7"}
    limit_threads(environ, 2)
    assert environ["OMP_NUM_THREADS"] == "7"
    assert environ["OPENBLAS_NUM_THREADS"] == "2"
