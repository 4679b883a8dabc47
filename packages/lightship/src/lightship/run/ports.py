"""Ports of the loopback."""

from __future__ import annotations

import errno
import socket

from lightship.errors import EngineError

LOOPBACK = "127.0.0.1"


def free_port(wanted: int | None = None) -> int:
    """A port of the loopback that nobody listens on at this moment: `wanted`, or one that the kernel picks.

    Raises: `EngineError` where `wanted` is in use or forbidden.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted or 0))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            hint = "Choose another one with --port, or none to get a free one."
            raise EngineError(f"The port {wanted} on {LOOPBACK} {why}.", hint=hint) from error
        return int(probe.getsockname()[1])
