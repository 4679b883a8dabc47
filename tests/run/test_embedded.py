"""The embedded engine, for real: containers made of namespaces alone, by root and by a normal user."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from machine import absent

from lightship.errors import EngineError
from lightship.oci.image import Image
from lightship.run import RunOptions, launcher
from lightship.run.embedded import EmbeddedContainer, EmbeddedEngine
from lightship.session import Session

NOBODY_IN_PARTICULAR = 12345
Start = Callable[..., EmbeddedContainer]


def let_everybody_enter(directory: Path) -> None:
    for path in (directory, *directory.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o111)
        if path.name.startswith("pytest-of-"):
            return


def wrapper(directory: Path, *command: str) -> str:
    """A program that runs Python by way of `command`."""
    python = "/usr/bin/python3"
    if not Path(python).exists():
        absent("there is no Python that every user may run")
    let_everybody_enter(directory)
    script = directory / "python"
    script.write_text(f'#!/bin/sh\nexec {" ".join(command)} {python} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def normal_python(tmp_path: Path) -> str:
    """A Python that gives up root's rights at once."""
    if os.geteuid() != 0:
        pytest.skip("everything runs as a normal user already")
    if shutil.which("setpriv") is None:
        absent("the program 'setpriv' is not installed")
    user = str(NOBODY_IN_PARTICULAR)
    return wrapper(tmp_path, "setpriv", "--reuid", user, "--regid", user, "--clear-groups")


@pytest.fixture(params=["ourselves", "normal user"])
def engine(request: pytest.FixtureRequest) -> EmbeddedEngine:
    """The engine as whoever runs the tests, and as a user without rights."""
    engine = EmbeddedEngine()
    if request.param == "normal user":
        engine = EmbeddedEngine(request.getfixturevalue("normal_python"))
    if why := engine.why_not():
        absent(f"the embedded engine does not work here: {why}")
    return engine


@pytest.fixture
def start(
    engine: EmbeddedEngine, session: Session, busybox_image: Callable[..., Image]
) -> Iterator[Callable[..., EmbeddedContainer]]:
    """`start(script, environment=, grace=, **settings)`: a container that runs a shell script."""
    containers: list[EmbeddedContainer] = []

    def run(
        script: str, *, environment: tuple[tuple[str, str], ...] = (), grace: float = 10.0, **settings: object
    ) -> EmbeddedContainer:
        image = busybox_image(command=("sh", "-c", script))
        image = replace(image, settings=replace(image.settings, **{"working_directory": "/", **settings}))  # type: ignore[arg-type]
        let_everybody_enter(session.cache.directory.parent)
        containers.append(engine.start(image, session, RunOptions(environment=environment, grace=grace)))
        return containers[-1]

    yield run
    for container in containers:
        container.stop()


def said(container: EmbeddedContainer) -> list[str]:
    assert container.wait(30) == 0, container.logs()
    return container.logs().splitlines()


def processes(word: str) -> list[int]:
    """The processes of this machine with `word` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def gone(word: str) -> bool:
    for _ in range(500):
        if not processes(word):
            return True
        time.sleep(0.02)
    return False


def spoken(container: EmbeddedContainer, word: str) -> None:
    for _ in range(1000):
        if word in container.logs():
            return
        time.sleep(0.01)
    raise AssertionError(container.logs())


def test_the_program_is_the_images_user_with_its_environment_and_directory(start: Start) -> None:
    container = start(
        'id -u; id -g; pwd; echo "$GREETING $ADDED $HOME"; echo $$; hostname; umask',
        environment=(("ADDED", "added"), ("GREETING", "over")),
        working_directory="/app",
    )
    assert said(container) == ["65532", "65532", "/app", "over added /", "1", "lightship", "0022"]


def test_the_port_is_told_in_the_environment(start: Start) -> None:
    container = start('echo "$LIGHTSHIP_HOST $LIGHTSHIP_PORT $PORT"', environment=(("PORT", "1"),))
    assert said(container) == [f"127.0.0.1 {container.port} {container.port}"]


def test_the_environment_of_the_builder_stays_outside(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_BUILDER", "1")
    names = {line.partition("=")[0] for line in said(start("env"))}
    assert names <= {
        "GREETING", "HOME", "LIGHTSHIP_HOST", "LIGHTSHIP_PORT", "PATH", "PORT", "PWD", "SHLVL", "TEST", "OLDPWD"
    }  # fmt: skip


def test_a_user_may_be_a_name(start: Start) -> None:
    with pytest.raises(EngineError, match="'app' is not in its /etc/passwd"):
        start("id", user="app")


def test_root_of_the_image_has_no_power(start: Start) -> None:
    container = start("id -u; grep CapEff /proc/self/status; echo 1 >/proc/sys/vm/swappiness || echo no", user="")
    assert said(container)[::2] == ["0", "sh: can't create /proc/sys/vm/swappiness: Read-only file system"]


def test_there_are_no_capabilities_and_no_way_to_gain_any(start: Start) -> None:
    pattern = "^(Cap|NoNewPrivs|Sig(Blk|Ign))"
    container = start("", command=("/proc/self/status",), entrypoint=("/bin/busybox", "grep", "-E", pattern))
    lines = dict(line.split(":\t") for line in said(container))
    assert lines.pop("NoNewPrivs") == "1"
    # Signals 32 and 33 are the C library's own: no program can change what its parent left of them.
    lines["SigIgn"] = f"{int(lines['SigIgn'], 16) & ~(0b11 << 31):x}"
    assert {int(value, 16) for value in lines.values()} == {0}, lines


def test_the_root_is_read_only_and_temporary_directories_are_not(start: Start, session: Session) -> None:
    container = start(
        """
        for where in / /app /bin /etc /dev /proc /sys; do touch $where/x 2>/dev/null && echo wrote $where; done
        for where in /tmp /run /dev/shm; do echo $where >$where/x && cat $where/x; done
        busybox mount -o remount,rw / 2>/dev/null && echo remounted
        busybox umount /tmp 2>/dev/null && echo unmounted
        echo done
        """,
        environment=(("PATH", "/bin"),),
    )
    assert said(container) == ["/tmp", "/run", "/dev/shm", "done"]
    assert [path.name for path in session.cache.root.glob("trees/rootfs/*/*")].count("x") == 0


def test_devices_work_and_the_hosts_are_not_there(start: Start) -> None:
    container = start(
        "echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; cat </dev/stdin; ls /dev"
    )
    three, five, *devices = said(container)
    assert (three.strip(), five.strip()) == ("3", "5")
    assert set(devices) <= {*launcher.DEVICES, *dict(launcher.DEVICE_LINKS), "shm"}


def test_names_are_resolved_as_on_the_host(start: Start) -> None:
    expected = Path("/etc/resolv.conf").read_text() + Path("/etc/hosts").read_text()
    container = start("cat /etc/resolv.conf /etc/hosts")
    assert container.wait(10) == 0
    assert container.logs() == expected


def test_it_sees_its_own_processes_alone(start: Start) -> None:
    assert len(said(start("ls -d /proc/[0-9]*"))) <= 2


def test_two_containers_serve_on_ports_of_their_own(start: Start) -> None:
    script = 'echo %s >/tmp/name; exec /bin/busybox httpd -f -p "$LIGHTSHIP_HOST:$LIGHTSHIP_PORT" -h /tmp'
    containers = [start(script % name, grace=0.2) for name in ("one", "two")]
    answers = []
    for container in containers:
        for _ in range(500):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{container.port}/name", timeout=5) as response:
                    answers.append(response.read())
                break
            except OSError:
                time.sleep(0.01)
    assert answers == [b"one\n", b"two\n"]


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("sh -c 'kill -9 $$'; exit $?", 137)])
def test_the_exit_status_is_passed_on(start: Start, script: str, status: int) -> None:
    container = start(script)
    assert container.wait(10) == status
    assert container.wait() == status
    assert container.stop() == status


def test_stopping_lets_the_server_finish(start: Start) -> None:
    container = start("trap 'echo finished; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    spoken(container, "up")
    assert container.wait(0) is None
    assert (container.stop(), container.stop()) == (5, 5)
    assert container.logs() == "up\nfinished\n"


def test_the_images_stop_signal_is_used(start: Start) -> None:
    container = start("trap 'exit 6' INT; echo up; while :; do sleep 0.05; done", stop_signal="SIGINT")
    spoken(container, "up")
    assert container.stop() == 6


def test_a_server_that_does_not_stop_is_killed_with_all_it_started(start: Start) -> None:
    word = f"4242.{os.getpid()}"
    container = start(
        f"trap '' TERM; sleep {word} & (sleep {word} &) ; echo up; while :; do sleep 0.05; done", grace=0.2
    )
    spoken(container, "up")
    assert processes(word)
    assert container.stop() == 137
    assert not processes(word)  # at once: the last process is gone before stop() returns


def test_what_is_left_behind_ends_with_the_program(start: Start) -> None:
    word = f"4343.{os.getpid()}"
    container = start(f"sleep {word} & echo up")
    assert container.wait(10) == 0
    assert not processes(word)


def test_it_dies_with_the_launcher(start: Start) -> None:
    word = f"4444.{os.getpid()}"
    container = start(f"trap '' TERM HUP; echo up; while :; do sleep {word}; done")
    spoken(container, "up")
    os.kill(container.pid, signal.SIGKILL)
    assert gone(word)
    assert container.wait(10) == 137


def test_it_dies_with_the_builder(
    engine: EmbeddedEngine, session: Session, busybox_image: Callable[..., Image]
) -> None:
    word = f"4545.{os.getpid()}"
    image = busybox_image(command=("sh", "-c", f"trap '' TERM HUP; echo up; while :; do sleep {word}; done"))
    image = replace(image, settings=replace(image.settings, working_directory="/"))
    let_everybody_enter(session.cache.directory.parent)
    builder = os.fork()
    if builder == 0:
        with suppress(BaseException):
            container = engine.start(image, session, RunOptions())
            container.wait()
        os._exit(1)
    try:
        for _ in range(500):
            if processes(f"sleep\0{word}"):
                break
            time.sleep(0.02)
        assert processes(f"sleep\0{word}")
    finally:
        os.kill(builder, signal.SIGKILL)
        os.waitpid(builder, 0)
    assert gone(word)


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_nothing_is_left_when_the_container_is_forgotten(start: Start, engine: EmbeddedEngine) -> None:
    for _ in range(3):
        assert start("exit 0").wait(10) == 0
    assert not [pid for pid in processes("launcher.py") if parent(pid) == os.getpid()]  # others run containers too
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_last_mebibyte_of_the_log_is_kept(start: Start) -> None:
    container = start("yes 0123456789 | head -c 5000000; echo; echo end")
    lines = said(container)
    assert lines[-1] == "end"
    assert lines[0] == "0123456789"
    assert (1 << 20) - 100 < len(container.logs()) <= 1 << 20


def test_the_environment_is_on_nobodys_command_line(start: Start) -> None:
    container = start("echo up; sleep 60", environment=(("TOKEN", "sesame-4711"),), grace=0.1)
    spoken(container, "up")
    assert not processes("sesame-4711")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"entrypoint": ("/bin/none",)}, "/bin/none is not in the image"),
        ({"entrypoint": ("none",)}, "none is not in the image"),
        ({"entrypoint": ("/app/hello.txt",)}, "cannot be run as the user 65532:65532: Permission denied"),
        ({"working_directory": "/none"}, "working directory /none"),
        ({"entrypoint": (), "command": ()}, "neither an entrypoint nor a command"),
        ({"user": "4294967295"}, "which no system has"),
    ],
)
def test_what_cannot_be_run_is_an_error_that_says_why(
    start: Start, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        start("exit 0", **settings)


def test_a_program_without_its_loader_is_told_apart(
    engine: EmbeddedEngine, session: Session, busybox_image: Callable[..., Image], make_layer: Callable[..., object]
) -> None:
    image = busybox_image()
    layer = make_layer({"app/run": (b"#!/usr/bin/no-such-interpreter\n", 0o755), "app/data": (b"\1\2\3\4", 0o755)})
    let_everybody_enter(session.cache.directory.parent)
    image = replace(image, layers=(*image.layers, layer))
    for path, message in (("/app/run", "what it needs to run is not"), ("/app/data", "no program for this machine")):
        with pytest.raises(EngineError, match=message):
            engine.start(replace(image, settings=replace(image.settings, entrypoint=(path,))), session, RunOptions())


def test_a_port_that_is_taken_is_refused(start: Start, session: Session, busybox_image: Callable[..., Image]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"{port} on 127.0.0.1 is in use"):
            EmbeddedEngine().start(busybox_image(), session, RunOptions(port=port))


def test_a_running_container_keeps_its_files_from_being_pruned(start: Start, session: Session) -> None:
    container = start("trap 'exit 0' TERM; while :; do sleep 0.1; done")
    session.cache.prune()
    [root] = (session.cache.root / "trees" / "rootfs").iterdir()
    assert (root / "app/hello.txt").is_file()
    container.stop()
    session.cache.prune()
    assert not root.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a cache for somebody else")
def test_root_runs_from_the_cache_of_somebody_else(session: Session, busybox_image: Callable[..., Image]) -> None:
    image = busybox_image(command=("sh", "-c", "exit 3"))
    session.cache.directory.mkdir(exist_ok=True)
    os.chown(session.cache.directory, NOBODY_IN_PARTICULAR, NOBODY_IN_PARTICULAR)
    session.cache.directory.chmod(0o700)
    assert EmbeddedEngine().start(image, session, RunOptions()).wait(10) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="everything runs as a normal user already")
def test_all_of_it_as_a_normal_user(
    normal_python: str, session: Session, busybox_image: Callable[..., Image]
) -> None:
    """Unpacking too, not the launcher alone."""
    image = busybox_image(command=("sh", "-c", "id -u; stat -c %u /app/hello.txt"))
    for path in [session.cache.directory, *session.cache.directory.rglob("*")]:
        os.chown(path, NOBODY_IN_PARTICULAR, NOBODY_IN_PARTICULAR)
    let_everybody_enter(session.cache.directory.parent)
    user = os.fork()
    if user == 0:
        status = 1
        with suppress(BaseException):
            os.setgroups([])
            os.setresgid(NOBODY_IN_PARTICULAR, NOBODY_IN_PARTICULAR, NOBODY_IN_PARTICULAR)
            os.setresuid(NOBODY_IN_PARTICULAR, NOBODY_IN_PARTICULAR, NOBODY_IN_PARTICULAR)
            container = EmbeddedEngine("/usr/bin/python3").start(image, session, RunOptions())
            status = container.wait(30) or 0
            status += container.logs() != "65532\n65532\n"
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(user, 0)[1]) == 0


@pytest.mark.tool("unshare")
def test_where_the_kernel_refuses_namespaces_it_says_so(
    tmp_path: Path, session: Session, busybox_image: Callable[..., Image]
) -> None:
    if why := EmbeddedEngine().why_not():
        absent(f"there are no namespaces to forbid: {why}")
    forbid = "echo 0 >/proc/sys/user/max_user_namespaces; exec"
    python = wrapper(tmp_path, "unshare", "--user", "--map-root-user", "sh", "-c", f"'{forbid} \"$@\"'", "sh")
    engine = EmbeddedEngine(python)
    reason = engine.why_not()
    assert reason
    assert "No space left on device" in reason
    assert "Docker or Podman" in reason
    with pytest.raises(EngineError, match="does not work here"):
        engine.start(busybox_image(), session, RunOptions())


def test_a_broken_python_is_told(tmp_path: Path) -> None:
    assert "ended with the status 1" in (EmbeddedEngine(shutil.which("false") or "/bin/false").why_not() or "")
    assert "Could not run" in (EmbeddedEngine(str(tmp_path / "none")).why_not() or "")


def test_the_launcher_needs_nothing_but_python(tmp_path: Path) -> None:
    done = subprocess.run(
        ["python3", "-I", "-S", launcher.__file__, "1"], input=b"", capture_output=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (125, b"")
