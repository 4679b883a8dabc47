"""The parent of a container that runs with no engine: a program of its own, made of the standard library alone.

`python -I -S launcher.py REPORT` reads one line of JSON (`launch_request` in embedded.py writes it) from standard
input, makes the container, and waits for it. What goes wrong before the image's program runs is written to the file
descriptor REPORT as JSON: {"step": ..., "errno": ..., "subject": ...}; nothing is written where all is well. Then:

* SIGTERM passes the image's stop signal on to the container.
* The end of standard input kills the container. It comes when the builder dies, however it dies.
* When the launcher itself is killed, the kernel kills the container (PR_SET_PDEATHSIG), and with PID 1 all of it.
* The exit status is the container's, or 128 and the number of the signal that ended it.

The container has user, mount, PID, IPC and host name namespaces of its own; the network of the host, or where the
request says so none at all; a read-only root; tmpfs on /tmp, /run and /dev/shm, and below /tmp the folder to work in
that the request may name; no capability and no way to gain one (namespaces(7), user_namespaces(7)). This keeps a
program from harming its host by mistake. It has no seccomp filter and is no fortress against a hostile image.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
# linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
# Flags that another user namespace's mount has locked must be repeated to remount it: statvfs's, then mount's.
_LOCKED = ((2, 2), (4, 4), (8, 8), (1024, 1024), (2048, 2048), (4096, 1 << 21))
# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h

STAGE = "/tmp"  # noqa: S108 - every host has it; only the container's own mount namespace sees what is mounted there
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
# Parts of /proc that change the host, not the container (as runc's default read-only paths).
PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs")


class Failure(Exception):
    """A step that did not succeed; `subject` is the path or number that it was about."""

    def __init__(self, step: str, error: OSError, subject: str = "") -> None:
        super().__init__(step)
        self.report = {"step": step, "errno": error.errno or 0, "subject": subject}


class Kernel:
    """The system calls that Python has no functions for."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._library, name)(*arguments) == -1:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    def unshare(self, flags: int) -> None:
        self._call("unshare", ctypes.c_int(flags))

    def mount(self, source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
        encoded = [os.fsencode(text) if text is not None else None for text in (source, target, kind)]
        try:
            self._call("mount", *encoded, ctypes.c_ulong(flags), data.encode())
        except OSError as error:
            raise Failure("mount", error, target) from error

    def bind(self, source: str, target: str, *, read_only: bool) -> None:
        self.mount(source, target, flags=MS_BIND)
        if read_only:
            self.make_read_only(target)

    def make_read_only(self, target: str) -> None:
        has = os.statvfs(target).f_flag
        kept = sum(flag for known, flag in _LOCKED if has & known)
        self.mount(None, target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)

    def change_root(self) -> None:
        """Make the current directory, a mount, the root, and let go of the old one (pivot_root(2), last section)."""
        try:
            self._call("pivot_root", b".", b".")
            self._call("umount2", b".", ctypes.c_int(MNT_DETACH))
        except OSError as error:
            raise Failure("mount", error, "/") from error
        os.chdir("/")

    def set_host_name(self, name: str) -> None:
        encoded = name.encode()
        self._call("sethostname", encoded, ctypes.c_size_t(len(encoded)))

    def prctl(self, option: int, first: int = 0, second: int = 0) -> None:
        self._call("prctl", ctypes.c_int(option), *map(ctypes.c_ulong, (first, second, 0, 0)))

    def forbid_capabilities(self) -> None:
        """Empty the bounding set: no program run from here on can have any capability."""
        for capability in range(64):
            try:
                self.prctl(PR_CAPBSET_DROP, capability)
            except OSError:
                return  # past the last one that this kernel knows

    def drop_capabilities(self) -> None:
        self.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        self._call("capset", header, (ctypes.c_uint32 * 6)())


def main(report: int) -> int:
    os.set_inheritable(report, False)
    request = read_request()
    kernel = Kernel()
    try:
        os.chdir(request["root"])
        enter_namespaces(kernel, request["uid"], request["gid"], network=request["network"])
        # The container looks at one end of this to see whether its parent is still alive.
        alive, held = os.pipe()
        container = os.fork()
        if container == 0:
            os.close(held)
            become_container(kernel, request, report, alive)
    except Failure as failure:
        tell(report, failure.report)
        return 125
    except OSError as error:
        tell(report, {"step": "start", "errno": error.errno, "subject": str(error.filename or "")})
        return 125
    os.close(report)
    os.chdir("/")
    return supervise(container, request["stop_signal"])


def read_request() -> dict[str, Any]:
    """The one line of standard input, read without waiting for more."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            sys.exit(125)  # the builder died before it said anything
        line += piece
    request: dict[str, Any] = json.loads(line)
    return request


def tell(report: int, problem: dict[str, object]) -> None:
    os.write(report, json.dumps(problem).encode())


def enter_namespaces(kernel: Kernel, uid: int, gid: int, *, network: bool) -> None:
    """Leave for new namespaces (the PID namespace begins with the next child), with `uid` and `gid` mapped.

    Without `network` there is a network namespace as well, and nothing in it.
    """
    launcher = os.getpid()
    ready, go = os.pipe()
    writer = os.fork()
    if writer == 0:  # stays in the parent's user namespace, where root may map what it likes
        os.close(go)
        status = 0
        if os.read(ready, 1):
            try:
                write_maps(f"/proc/{launcher}", uid, gid)
            except OSError as error:
                status = error.errno or 1
        os._exit(status)
    os.close(ready)
    try:
        kernel.unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (0 if network else CLONE_NEWNET))
        os.write(go, b".")
    except OSError as error:
        raise Failure("namespaces", error) from error
    finally:
        os.close(go)
        _, status = os.waitpid(writer, 0)
    if number := os.waitstatus_to_exitcode(status):
        raise Failure("ids", OSError(number, os.strerror(number)), f"{uid}:{gid}")


def write_maps(process: str, uid: int, gid: int) -> None:
    """Map the image's user: as root to the same id, so that no container is root of its host; else to ours."""

    def write(name: str, content: str) -> None:
        Path(process, name).write_text(content)

    try:
        write("uid_map", own_ids(uid))
        write("gid_map", own_ids(gid))
    except OSError:
        # What a user without privileges may do: one id, and supplementary groups stay as they are.
        write("setgroups", "deny")
        write("uid_map", f"{uid} {os.geteuid()} 1\n")
        write("gid_map", f"{gid} {os.getegid()} 1\n")


def own_ids(number: int) -> str:
    return f"0 0 1\n{number} {number} 1\n" if number else "0 0 1\n"


def become_container(kernel: Kernel, request: dict[str, Any], report: int, alive: int) -> NoReturn:
    """Set up the container around this process, its PID 1, and become the image's program. Never returns."""
    try:
        os.setsid()
        os.umask(0o022)
        forget_signals()
        # Opened here, because the container's root has no such program.
        emulator = os.open(request["emulator"], os.O_RDONLY | os.O_CLOEXEC) if request["emulator"] else None
        build_root(kernel, request["files"], request["work"])
        kernel.set_host_name(request["host_name"])
        become_user(kernel, request["uid"], request["gid"])
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([alive], [], [], 0)[0]:
            os._exit(125)  # the launcher died before it could be noticed
        if request["arguments"]:
            run_program(request, emulator)
        os._exit(0)
    except Failure as failure:
        tell(report, failure.report)
    except OSError as error:
        tell(report, {"step": "start", "errno": error.errno, "subject": str(error.filename or error)})
    os._exit(125)


def forget_signals() -> None:
    """Undo what is inherited: signals that Python ignores, or a shell that runs us in the background."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def build_root(kernel: Kernel, files: list[list[str]], work: list[str] | None) -> None:
    """Make the current directory the read-only root of a new mount namespace, with what programs expect around it.

    `work` is a folder of the host and where it is to be, relative to the root and below tmp: the one place whose
    files stay when the container is gone.
    """
    kernel.unshare(CLONE_NEWNS)
    kernel.mount(None, "/", flags=MS_REC | MS_PRIVATE)
    # Opened before the stage covers what lies below /tmp, and in this namespace, whose mounts alone can be bound.
    opened = os.open(work[0], os.O_PATH | os.O_DIRECTORY) if work else None
    # By the current directory: its path may lead through directories that only the user outside may enter.
    kernel.mount(".", STAGE, flags=MS_BIND)
    os.chdir(STAGE)
    kernel.make_read_only(".")
    plain = MS_NOSUID | MS_NODEV
    kernel.mount("proc", "proc", "proc", plain | MS_NOEXEC)
    for name in PROC_READ_ONLY:
        if Path("proc", name).exists():
            kernel.bind(f"proc/{name}", f"proc/{name}", read_only=True)
    kernel.mount("tmpfs", "tmp", "tmpfs", plain, "mode=1777")
    if work and opened is not None:
        Path(work[1]).mkdir(parents=True)
        kernel.bind(f"/proc/self/fd/{opened}", work[1], read_only=False)
        os.close(opened)
    kernel.mount("tmpfs", "run", "tmpfs", plain, "mode=1777")
    build_dev(kernel)
    # Libraries count processors and memory nodes there. All of /sys can be had only with a network namespace.
    kernel.mount("tmpfs", "sys", "tmpfs", plain | MS_NOEXEC, "mode=755")
    Path("sys/devices/system").mkdir(parents=True)
    kernel.bind("/sys/devices/system", "sys/devices/system", read_only=True)
    kernel.make_read_only("sys")
    for source, target in files:
        if Path(source).exists() and Path(target).is_file():
            kernel.bind(source, target, read_only=True)
    kernel.change_root()


def build_dev(kernel: Kernel) -> None:
    kernel.mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755")
    for name in DEVICES:
        if Path("/dev", name).exists():
            Path("dev", name).touch()
            kernel.bind(f"/dev/{name}", f"dev/{name}", read_only=False)
    for name, target in DEVICE_LINKS:
        Path("dev", name).symlink_to(target)
    Path("dev/shm").mkdir()
    kernel.mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    kernel.make_read_only("dev")


def become_user(kernel: Kernel, uid: int, gid: int) -> None:
    """Become the image's user, for good."""
    kernel.forbid_capabilities()
    # Denied together with the map of a single id: then the groups of our user stay, shown as nobody's.
    with contextlib.suppress(PermissionError):
        os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    kernel.drop_capabilities()
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)


def run_program(request: dict[str, Any], emulator: int | None) -> None:
    """Become the image's program, or the emulator of its processor, which reads it as a file."""
    directory, environment = request["directory"], request["environment"]
    try:
        os.chdir(directory)
    except OSError as error:
        raise Failure("directory", error, directory) from error
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    arguments = request["arguments"]
    program = find_program(arguments[0], environment.get("PATH", ""))
    try:
        if emulator is not None and Path(program).exists():
            os.execve(emulator, [request["emulator"], program, *arguments[1:]], environment)  # noqa: S606
        os.execve(program, arguments, environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        # A program that is there yet "not found" lacks its interpreter: the ELF loader, or the one after #!.
        there = error.errno == 2 and Path(program).exists()
        raise Failure("interpreter" if there else "program", error, program) from error


def find_program(name: str, search: str) -> str:
    if "/" in name:
        return name
    for directory in search.split(":"):
        candidate = f"{directory or '.'}/{name}"
        if os.access(candidate, os.X_OK):
            return candidate
    return name


def supervise(container: int, stop_signal: int) -> int:
    """Wait for the container; its exit status. Passes SIGTERM on, and kills it when standard input ends."""
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(container, stop_signal))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        pid, status = os.waitpid(container, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        for descriptor, _ in poll.poll():
            if not os.read(descriptor, 4096) and descriptor == 0:
                poll.unregister(0)
                os.kill(container, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
