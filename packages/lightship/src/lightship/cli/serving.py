"""Waiting beside a container that serves: until it ends by itself, or the user or a supervisor says stop."""

from __future__ import annotations

import signal
from types import FrameType

from lightship.errors import VerificationError
from lightship.run import Container


class _Stopped(Exception):
    pass


def serve_until_interrupted(container: Container) -> None:
    """Return on Ctrl-C and SIGTERM; raise where the container ends by itself with an error."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = container.wait()
    except _Stopped:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status:
        last = "\n".join(container.logs().splitlines()[-20:])
        raise VerificationError(f"The container ended by itself with status {status}. Its last lines:\n{last}")
