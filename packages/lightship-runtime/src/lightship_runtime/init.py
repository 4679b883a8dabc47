"""The part of process 1 in a container: forward signals to the server, reap orphans, end with the server's status.

The kernel gives process 1 no default action for SIGTERM and every orphan to look after. A server that reaped them
itself would steal the exit status of children that a library is waiting for; so the server runs in a child, forked
before anything is imported, and what stays behind is small. Only Linux's rules of pid namespaces matter here.
"""

from __future__ import annotations

import os
import signal

_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def become_child_of_init() -> None:
    """Where this is process 1, fork and return in the child only. Elsewhere do nothing."""
    if os.getpid() != 1:
        return
    watched = {*_FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)  # blocked signals wait for sigwait, even with no handler
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # or a terminal's Ctrl-C would arrive twice: from the terminal and forwarded
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
        return
    os._exit(_watch(child, watched))


def _watch(child: int, watched: set[signal.Signals]) -> int:
    """Forward and reap until the server has ended; its exit status, 128 + number for a signal as shells have it."""
    while True:
        received = signal.sigwait(watched)
        if received != signal.SIGCHLD:
            os.kill(child, received)
            continue
        while True:  # one SIGCHLD may stand for several children
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
