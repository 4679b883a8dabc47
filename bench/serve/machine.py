"""The machine that figures come from: how idle it is, how many cores it has, what its load is."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.8  # part of the CPU time that must be idle before a run; noise has moved results tenfold


@dataclass(frozen=True)
class Machine:
    """Cores that this process may use, the part of CPU time that was idle before the run, and the load average."""

    cores: int
    idle: float
    load: tuple[float, float, float]


def look(*, seconds: float = 2, anyway: bool = False) -> Machine:
    """Watch the machine for some seconds; a busy one ends the benchmark, or with `anyway` is warned of."""
    before = _times()
    time.sleep(seconds)
    spent = [after - start for start, after in zip(before, _times(), strict=True)]
    machine = Machine(len(os.sched_getaffinity(0)), (spent[3] + spent[4]) / max(1, sum(spent)), os.getloadavg())
    if machine.idle < QUIET:
        told = f"the machine is busy: {machine.idle:.0%} idle, {QUIET:.0%} wanted"
        if not anyway:
            raise SystemExit(f"{told} (--busy measures all the same)")
        print(f"warning: {told}; the figures are worth little", file=sys.stderr)
    return machine


def _times() -> list[int]:
    """Ticks in user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)); guests are in user already."""
    return [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
