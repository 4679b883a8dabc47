"""How much memory the container may use, and how much of it is used: what the kernel's OOM killer goes by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """One cgroup's account, in bytes.

    Attributes:
        limit: Beyond which the kernel ends processes.
        used: What it counts against that, without the file pages that it would give up first.
    """

    limit: int
    used: int

    @property
    def share(self) -> float:
        """Which part of the limit is used, 0 to 1."""
        return self.used / self.limit


def container_memory(root: Path = Path("/")) -> Memory | None:
    """The account of the cgroup with the least room, None where none has a limit (cgroup-v2.rst, memory.rst)."""
    return min(_accounts(root), key=lambda memory: memory.limit - memory.used, default=None)


def _accounts(root: Path) -> Iterator[Memory]:
    total = _total(root)
    for line in (_read(root / "proc/self/cgroup") or "0::/").splitlines():
        _, controllers, name = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "/")
        inside = [part for part in name.split("/") if part not in ("", "..")]
        for depth in range(len(inside), -1, -1):  # in a container the path may be the host's; the top then is ours
            if not controllers:
                group = root.joinpath("sys/fs/cgroup", *inside[:depth])
                limit, used, cached = "memory.max", "memory.current", "inactive_file"
            elif "memory" in controllers.split(","):
                group = root.joinpath("sys/fs/cgroup/memory", *inside[:depth])
                limit, used, cached = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            else:
                break
            most, now = _read(group / limit) or "", _read(group / used) or ""
            # cgroup v1 writes a number near 2^63 where there is no limit.
            if most.isdigit() and now.isdigit() and 0 < int(most) < (total or 1 << 60):
                yield Memory(int(most), max(0, int(now) - _statistic(group / "memory.stat", cached)))


def _statistic(path: Path, name: str) -> int:
    for line in (_read(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _total(root: Path) -> int | None:
    for line in (_read(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
