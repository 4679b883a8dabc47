"""From the configuration to a server that answers: the whole of a start, in order."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

from lightship_runtime import __version__, environment
from lightship_runtime.errors import StartError
from lightship_runtime.log import Log, log_warnings, round_seconds
from lightship_runtime.threads import available_cpus, limit_threads

_EXIT_PATIENCE = 2.0  # seconds


def main(environ: MutableMapping[str, str], stream: TextIO) -> int:
    """Serve until told to stop; the exit status. Errors are one line of the log, with what to do."""
    log = Log(stream)
    try:
        _serve(environ, log)
    except StartError as error:
        log.event("failed", level="error", message=error.message, hint=error.hint)
        return error.exit_code
    return 0


def _serve(environ: MutableMapping[str, str], log: Log) -> None:
    started = time.perf_counter()
    _exit_on_signals(log)
    cpus = available_cpus()
    limit_threads(environ, cpus)  # before anything could import a library that reads it

    from lightship_runtime.config import app_directory, load_config
    from lightship_runtime.listener import bind
    from lightship_runtime.server import Drain, serve

    path = environment.config_path(environ)
    config = load_config(path, environ)
    app = app_directory(path)
    os.chdir(app)
    sys.path[:] = [str(app), *(entry for entry in sys.path if entry not in ("", str(app)))]
    log.event("starting", version=__version__, python=sys.version.split()[0], cpus=cpus, port=config.port)
    listener = bind(config)
    drain = Drain()
    workers = None
    if config.app is not None:
        served = _application(config.app, log)
    else:
        from lightship_runtime.api import Api
        from lightship_runtime.predictor import load_predictor

        log_warnings(log, text=True)
        predictor, workers = load_predictor(config, app, cpus, log)
        log_warnings(log, text=False)
        served = Api(predictor, workers, config, lambda: drain.active)

    def ready() -> None:
        log.event("ready", port=config.port, seconds=round_seconds(time.perf_counter() - started))

    serve(served, listener, config, drain, log, ready)
    log.event("stopped", unfinished=workers.busy if workers else None)
    if workers:
        workers.close()
    _exit_even_if_threads_hang()


def _application(reference: str, log: Log) -> Any:
    from lightship_runtime.application import load_application

    started = time.perf_counter()
    application = load_application(reference, log)
    log.event("import", app=reference, seconds=round_seconds(time.perf_counter() - started))
    return application


def _exit_on_signals(log: Log) -> None:
    """Until the port is open there is nothing to finish: a signal ends the process at once, and well."""

    def stop(number: int, frame: object) -> None:
        log.event("stopped", phase="starting")
        os._exit(0)  # an exception could be swallowed by whatever is being imported

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _exit_even_if_threads_hang() -> None:
    """Give the interpreter a moment to end as usual; threads that still compute after the grace do not stop it."""

    def exit_hard() -> None:
        time.sleep(_EXIT_PATIENCE)
        os._exit(0)

    threading.Thread(target=exit_hard, daemon=True).start()
