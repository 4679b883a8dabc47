"""Process 1 of a real pid namespace: forwards signals, reaps orphans, ends with the server's status."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import absent

UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]

PROGRAM = """
import os, signal, sys, time
from lightship_runtime.init import become_child_of_init
assert os.getpid() == 1
become_child_of_init()
assert os.getpid() != 1 and os.getppid() == 1
"""


@pytest.fixture(autouse=True)
def namespaces() -> None:
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        absent(f"no user and pid namespaces here: {probe.stderr.strip()}")


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "program.py"


def _run(script: Path, code: str) -> subprocess.CompletedProcess[str]:
    script.write_text(PROGRAM + code)
    command = [*UNSHARE, sys.executable, str(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.tool("unshare")
def test_it_ends_with_the_servers_status(script: Path) -> None:
    assert _run(script, "sys.exit(7)").returncode == 7


@pytest.mark.tool("unshare")
def test_a_server_that_is_killed_ends_as_shells_tell_it(script: Path) -> None:
    assert _run(script, "os.kill(os.getpid(), signal.SIGKILL)").returncode == 128 + 9


@pytest.mark.tool("unshare")
def test_it_forwards_signals(script: Path) -> None:
    code = """
def stop(number, frame):
    print("stopped", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
os.kill(1, signal.SIGTERM)
time.sleep(30)
os._exit(1)
"""
    result = _run(script, code)
    assert (result.returncode, result.stdout) == (0, "stopped\n"), result.stderr


@pytest.mark.tool("unshare")
def test_it_reaps_orphans(script: Path) -> None:
    code = """
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)   # the orphan: its parent has gone, and process 1 must reap it
    os._exit(0)
os.waitpid(middle, 0)
time.sleep(0.1)
def processes():
    return [pid for pid in os.listdir("/proc") if pid.isdigit()]
assert len(processes()) == 3, processes()
end = time.monotonic() + 20
while len(processes()) > 2 and time.monotonic() < end:
    time.sleep(0.05)
print(len(processes()))
"""
    result = _run(script, code)
    assert result.stdout == "2\n", result.stderr


@pytest.mark.tool("unshare")
def test_the_server_still_gets_the_status_of_its_own_children(script: Path) -> None:
    result = _run(script, "import subprocess; print(subprocess.run(['sh', '-c', 'exit 3']).returncode)")
    assert result.stdout == "3\n", result.stderr


def test_elsewhere_it_does_nothing() -> None:
    code = (
        "import os; from lightship_runtime.init import become_child_of_init\n"
        "before = os.getpid(); become_child_of_init(); print(before == os.getpid())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"
