"""Timing of commands: wall-clock seconds, and the peak memory of everything that a command started."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds, and the peak of the summed proportional memory (PSS) of its tree in bytes."""

    seconds: float
    peak_memory: int
    output: str


def timed(command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], memory: bool = False) -> Run:
    """Run a command to its end; a failure ends the benchmark with what the command said."""
    start = time.monotonic()
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = _Peak(process.pid)
    if memory:
        peak.start()
    output, _ = process.communicate()
    seconds = time.monotonic() - start
    if memory:
        peak.stop()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}:\n{output[-4000:]}")
    return Run(seconds, peak.bytes, output)


def median(runs: Sequence[Run]) -> float:
    """The median of the seconds."""
    return statistics.median(run.seconds for run in runs)


class _Peak(threading.Thread):
    """Samples the memory of a process and its descendants. PSS counts shared pages once.

    Every 20 ms, or as seldom as takes a tenth of the time: the kernel walks all pages of a process to answer.
    """

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._ended = threading.Event()
        self.bytes = 0

    def run(self) -> None:
        pause = 0.02
        while not self._ended.wait(pause):
            start = time.monotonic()
            self.bytes = max(self.bytes, sum(_memory(pid) for pid in _tree(self._root)))
            pause = max(0.02, 9 * (time.monotonic() - start))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, pending = [], [root]
    while pending:
        pid = pending.pop()
        found.append(pid)
        pending.extend(children.get(pid, []))
    return found


def _memory(pid: int) -> int:
    """Anonymous and file-backed memory in use; the page cache of files read with read(2) is nobody's."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
