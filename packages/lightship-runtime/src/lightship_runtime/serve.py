"""From the configuration to a server that answers: the whole of a start, in order."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import MutableMapping
from typing import TextIO

from lightship_runtime import __version__, environment
from lightship_runtime.errors import StartError
from lightship_runtime.log import Log
from lightship_runtime.supervisor import supervise
from lightship_runtime.threads import available_cpus


def main(environ: MutableMapping[str, str], stream: TextIO) -> int:
    """Serve until told to stop; the exit status. Errors are one line of the log, with what to do."""
    log = Log(stream)
    try:
        return _serve(environ, log)
    except StartError as error:
        log.event("failed", level="error", message=error.message, hint=error.hint)
        return error.exit_code


def _serve(environ: MutableMapping[str, str], log: Log) -> int:
    started = time.monotonic()
    from lightship_runtime.config import app_directory, changed_settings, load_config
    from lightship_runtime.front.auth import load_keys
    from lightship_runtime.listener import bind

    cpus = available_cpus()
    path = environment.config_path(environ)
    config = load_config(path, environ)
    app = environment.app_override(environ) or app_directory(path)
    keys = load_keys(environ)
    log.event(
        "starting",
        version=__version__,
        python=sys.version.split()[0],
        cpus=cpus,
        port=config.port,
        keys=len(keys.names) or None,
        settings=changed_settings(config),
    )
    listener = bind(config)
    if config.app is not None:

        def application() -> int:
            from lightship_runtime.application.server import run

            return run(listener, config, app, cpus, os.environ, log, started)

        return supervise(application, None, log)
    front_end, birth = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def front() -> int:
        birth.close()
        from lightship_runtime.front.server import run

        try:
            return run(listener, front_end, config, keys, log, started)
        except StartError as error:
            log.event("failed", level="error", message=error.message, hint=error.hint)
            return error.exit_code

    def host() -> int:
        listener.close()
        front_end.close()
        from lightship_runtime.host.host import run

        return run(config, app, cpus, birth, os.environ, log)

    return supervise(front, host, log)
