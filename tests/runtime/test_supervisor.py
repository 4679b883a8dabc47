"""Process 1 of a real pid namespace: forwards signals, reaps orphans, ends with the server's status."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import absent

UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]

PROGRAM = """
import os, signal, sys, time
from lightship_runtime.log import Log
from lightship_runtime.supervisor import supervise
assert os.getpid() == 1

def front():
    assert os.getpid() != 1 and os.getppid() == 1
"""

END = """
sys.exit(supervise(front, None, Log(sys.stderr)))
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
    script.write_text(PROGRAM + textwrap.indent(code, "    ") + "\n    return 0\n" + END)
    command = [*UNSHARE, sys.executable, str(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.tool("unshare")
def test_it_ends_with_the_servers_status(script: Path) -> None:
    assert _run(script, "return 7").returncode == 7


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


HOSTED = """
import os, signal, sys, time
from pathlib import Path
from lightship_runtime.log import Log
from lightship_runtime.supervisor import supervise
here = Path(sys.argv[1])

def front():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    time.sleep(60)
    return 1

def host():
    starts = here / "starts"
    starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
"""

HOSTED_END = """
sys.exit(supervise(front, host, Log(sys.stderr)))
"""


def _hosted(folder: Path, code: str) -> tuple[int, str]:
    """The exit status of a server whose process with the model runs `code`, and how often that was started."""
    program = folder / "hosted.py"
    program.write_text(
        HOSTED + textwrap.indent(code, "    ") + "\nsys.exit(supervise(front, host, Log(sys.stderr)))\n"
    )
    command = [sys.executable, str(program), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return result.returncode, (folder / "starts").read_text()


def test_a_model_that_cannot_be_loaded_ends_the_server_with_that_status(tmp_path: Path) -> None:
    assert _hosted(tmp_path, "return 5") == (5, "x")


def test_a_process_that_keeps_being_killed_is_started_five_times(tmp_path: Path) -> None:
    assert _hosted(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)") == (7, "xxxxx")


def test_a_process_that_was_killed_once_is_replaced(tmp_path: Path) -> None:
    code = """if len(starts.read_text()) == 1:
    os.kill(os.getpid(), signal.SIGSEGV)
return 3"""
    assert _hosted(tmp_path, code) == (3, "xx")
