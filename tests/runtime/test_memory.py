"""The container's memory, read from cgroups of both versions, and the word before the kernel's."""

import io
import json
from pathlib import Path

from lightship_runtime.front.memory_watch import MemoryWatch
from lightship_runtime.log import Log
from lightship_runtime.memory import Memory, container_memory


def _written(root: Path, files: dict[str, str]) -> Path:
    for name, content in {"proc/meminfo": "MemTotal: 16000000 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_the_tightest_group_of_version_2_counts(tmp_path: Path) -> None:
    root = _written(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/memory.max": "1000000\n",
            "sys/fs/cgroup/a/memory.current": "900000\n",
            "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 400000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/b/memory.current": "1\n",
        },
    )
    assert container_memory(root) == Memory(1_000_000, 500_000)


def test_version_1_is_read_and_its_number_for_no_limit_is_none(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/x\n4:cpu:/x\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
    }
    assert container_memory(_written(tmp_path, files)) is None
    files["sys/fs/cgroup/memory/memory.limit_in_bytes"] = "2000\n"
    files["sys/fs/cgroup/memory/memory.stat"] = "total_inactive_file 2\n"
    assert container_memory(_written(tmp_path, files)) == Memory(2000, 3)


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert container_memory(tmp_path) is None


def test_the_alarm_is_raised_once_and_again_after_it_was_calm() -> None:
    stream = io.StringIO()
    looks = [Memory(100, used) for used in (50, 95, 96, 80, 99)]
    watch = MemoryWatch(Log(stream), lambda: looks.pop(0))
    for second in range(0, 10, 2):
        watch.check(float(second))
        watch.check(second + 0.5)  # too soon: not looked at
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["used"] for event in events] == [95, 99]
    assert "more memory" in events[0]["message"]
