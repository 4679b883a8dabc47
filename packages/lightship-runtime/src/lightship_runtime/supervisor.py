"""The first process of a server: it starts the two others, replaces the one with the model, ends with the other.

It imports next to nothing and has no threads, so that it can fork at any time. Where it is process 1 of a container
it does that process's duty as well: the kernel gives process 1 no default action for signals, and every orphan.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from lightship_runtime.errors import CrashLoop
from lightship_runtime.log import Log, where

Role = Callable[[], int]
_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
CRASHES = 5  # ends of the process with the model within CRASH_SECONDS, after which the server gives up
CRASH_SECONDS = 120.0


def supervise(front: Role, host: Role | None, log: Log) -> int:
    """Run `front` and `host`, each in a process of its own, until the front has ended; its exit status.

    Without a host the front is all there is.

    A host that ends by itself with a status other than 0 has said why in the log, and ends the server with that
    status. A host that a signal ended is started again, and one that has ended well while the front is still there:
    the model's own code has done that. Signals are forwarded to the front.
    """
    watched = {*_FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)  # blocked signals wait for sigwait, even with no handler
    processes = {"host": _fork(host, watched, log)} if host else {}
    processes["front"] = _fork(front, watched, log, listens=True)
    fatal: int | None = None
    ends: list[float] = []
    while True:
        received = signal.sigwait(watched)
        if received != signal.SIGCHLD:
            _kill(processes["front"], received)
            continue
        for pid, code in _reaped():
            if pid == processes["front"]:
                if host:
                    _kill_group(processes["host"])
                return fatal if fatal is not None else code if code >= 0 else 128 - code
            if host is None or pid != processes["host"]:
                continue  # an orphan of somebody else's
            _kill_group(pid)
            if code > 0:
                fatal = code
            elif code < 0 or not _ends_soon(processes["front"]):
                how = f"signal {-code}" if code < 0 else "its own exit"
                now = time.monotonic()
                ends = [end for end in ends if now - end < CRASH_SECONDS] + [now]
                if len(ends) < CRASHES:
                    log.event("process with the model is replaced", level="error", ended=how)
                    time.sleep(0.05 * len(ends))
                    processes["host"] = _fork(host, watched, log)
                    continue
                hint = "SIGKILL is often the kernel's answer to too little memory." if code == -9 else None
                message = f"The process with the model has ended {CRASHES} times, the last time by {how}."
                log.event("failed", level="error", message=message, hint=hint)
                fatal = CrashLoop.exit_code
            if fatal is not None:
                _kill(processes["front"], signal.SIGTERM)


def _fork(role: Role, blocked: set[signal.Signals], log: Log, *, listens: bool = False) -> int:
    """Run `role` in a child, in a process group of its own: a terminal's Ctrl-C reaches it forwarded, once.

    The one that `listens` ends well when it is told to before it has made its own arrangements, and is told to when
    this process is killed; the other one is killed with it.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        if listens:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _early_end(log))
        end_with_parent(parent, signal.SIGTERM if listens else signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        code = role()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        log.event("process failed", level="error", error=type(error).__name__, where=where(error.__traceback__))
    finally:
        leave(code)


def _early_end(log: Log) -> Callable[[int, object], None]:
    def stop(number: int, frame: object) -> None:
        log.event("stopped", phase="starting")
        os._exit(0)  # an exception could be swallowed by whatever is being imported

    return stop


def end_with_parent(parent: int, number: int) -> None:
    """Have the kernel send a signal when the parent ends, however that happens."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another kernel than Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def leave(code: int) -> NoReturn:
    """End a forked process: what was printed is written, nothing else of the parent's is run again."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _reaped() -> list[tuple[int, int]]:
    """The children that have ended, with their exit codes; one SIGCHLD may stand for several."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def _ends_soon(pid: int) -> bool:
    """Whether a child has ended, or does within a second. It is not reaped."""
    with contextlib.suppress(ChildProcessError):  # both have ended at once, and it is reaped already
        for _ in range(50):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
            time.sleep(0.02)
        return False
    return True


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
