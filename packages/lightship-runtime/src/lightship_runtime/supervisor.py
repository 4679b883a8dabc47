"""The first process of the server: it starts the two others, replaces the one with the model, and ends with the other.

It imports next to nothing and has no threads, so that it can fork at any time. Where it is process 1 of a container it
does that process's duty as well: the kernel gives process 1 no default action for signals and every orphan to reap.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from lightship_runtime.errors import CrashLoop
from lightship_runtime.log import Log

Role = Callable[[], int]
_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
CRASHES = 5  # ends of the process with the model within CRASH_SECONDS, after which the server gives up
CRASH_SECONDS = 120.0


def supervise(front: Role, host: Role | None, log: Log) -> int:
    """Run `front` and `host`, each in a process of its own, until the front has ended; its exit status.

    Without a host the front is all there is.

    A host that ends by itself with a status other than 0 has said why in the log, and ends the server with that
    status. A host that a signal ended is started again. Signals are forwarded to the front.
    """
    watched = {*_FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)  # blocked signals wait for sigwait, even with no handler
    processes = {"host": _fork(host, watched, group=True)} if host else {}
    processes["front"] = _fork(front, watched, group=False)
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
            elif code < 0:
                now = time.monotonic()
                ends = [end for end in ends if now - end < CRASH_SECONDS] + [now]
                if len(ends) < CRASHES:
                    log.event("process with the model is replaced", level="error", ended=f"signal {-code}")
                    time.sleep(0.05 * len(ends))
                    processes["host"] = _fork(host, watched, group=True)
                    continue
                hint = "SIGKILL is often the kernel's answer to too little memory." if code == -9 else None
                message = f"The process with the model has ended {CRASHES} times, the last time by signal {-code}."
                log.event("failed", level="error", message=message, hint=hint)
                fatal = CrashLoop.exit_code
            if fatal is not None:
                _kill(processes["front"], signal.SIGTERM)


def _fork(role: Role, blocked: set[signal.Signals], *, group: bool) -> int:
    """Run `role` in a child. In a group of its own where a terminal's Ctrl-C must not reach it."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if group or os.getppid() == 1:
            os.setpgid(0, 0)  # or Ctrl-C would arrive twice: from the terminal and forwarded
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        code = role()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _reaped() -> list[tuple[int, int]]:
    """The children that have ended, with their exit codes; one SIGCHLD may stand for several."""
    ended = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
