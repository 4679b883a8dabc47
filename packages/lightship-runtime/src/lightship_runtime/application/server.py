"""Serves a user's application with uvicorn, and stops without losing a request.

After SIGTERM or SIGINT: say `Connection: close` in every answer and go on accepting for a moment (`linger`), so
that clients with a kept connection move away between two requests; let no new connection in, but read what the
kernel has already accepted; stop listening; finish what was accepted, for at most `grace` seconds. A second SIGINT
ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

from lightship_runtime.application.loading import load_application
from lightship_runtime.config import Config
from lightship_runtime.errors import StartError
from lightship_runtime.listener import BACKLOG, drop_new_connections, has_waiting
from lightship_runtime.log import Log, LoggingHandler, round_seconds
from lightship_runtime.threads import limit_threads

KEEP_ALIVE = 75  # seconds; longer than the usual 60 of load balancers, which must be the side that closes
_EXIT_PATIENCE = 2.0  # seconds
_TICK = 0.02  # seconds between two looks while draining
_HANDSHAKE = 0.1  # seconds; handshakes under way are completed meanwhile, as long as one round trip takes
_STRAGGLERS = 0.2  # seconds in which a connection just accepted may send its request


def run(
    listener: socket.socket,
    config: Config,
    app: Path,
    cpus: int,
    environ: MutableMapping[str, str],
    log: Log,
    started: float,
) -> int:
    """Import the application and serve it until a signal comes. The exit status."""
    limit_threads(environ, cpus)  # before anything could import a library that reads it
    os.chdir(app)
    sys.path[:] = [str(app), *(entry for entry in sys.path if entry not in ("", str(app)))]
    assert config.app is not None
    try:
        began = time.monotonic()
        application = load_application(config.app, log)
        log.event("import", app=config.app, seconds=round_seconds(time.monotonic() - began))

        def ready() -> None:
            log.event("ready", port=config.port, seconds=round_seconds(time.monotonic() - started))

        serve(application, listener, config, Drain(), log, ready)
    except StartError as error:
        log.event("failed", level="error", message=error.message, hint=error.hint)
        return error.exit_code
    log.event("stopped")
    _exit_even_if_threads_hang()
    return 0


class Drain:
    """An ASGI wrapper that, once `active`, asks clients to close their connection after the answer."""

    def __init__(self) -> None:
        self.active = False

    def wrap(self, app: Any) -> Any:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or not scope.get("http_version", "1.1").startswith("1"):
                await app(scope, receive, send)
                return

            async def closing_send(message: Any) -> None:
                if self.active and message["type"] == "http.response.start":
                    kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
                    message = {**message, "headers": [*kept, (b"connection", b"close")]}
                await send(message)

            await app(scope, receive, closing_send)

        return wrapped


def serve(
    app: Any, listener: socket.socket, config: Config, drain: Drain, log: Log, ready: Callable[[], None]
) -> None:
    """Serve until a signal comes, then drain. Calls `ready` once the port answers. Raises StartError."""
    logger = logging.getLogger("uvicorn")  # the parent of uvicorn.error, which tells of failures of the user's app
    logger.handlers, logger.propagate = [LoggingHandler(log)], False
    server = _Server(
        uvicorn.Config(
            drain.wrap(app),
            lifespan="auto",
            ws="auto",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, int(config.grace)),
            backlog=BACKLOG,
        ),
        config.linger,
        drain,
        log,
        ready,
    )

    def stop(number: int, frame: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal again when it has stopped, for the handler that was there before: this one, so that
    # the process then ends as it should, with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with contextlib.suppress(SystemExit):  # uvicorn's way, in some versions, to say that the start-up failed
        server.run(sockets=[listener])
    if not server.started:
        raise StartError("The application's start-up failed.", hint="The traceback is in the line above.")


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, linger: float, drain: Drain, log: Log, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._linger = linger
        self._drain = drain
        self._log = log
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain.active = True
        self._log.event("draining", connections=len(self.server_state.connections))
        await self._until(_never, self._linger)  # in full: a balancer may go on sending new connections so long
        listeners = sockets or []
        for listener in listeners:
            drop_new_connections(listener)
        await asyncio.sleep(_HANDSHAKE)
        await self._until(lambda: self._no_connection() and not has_waiting(listeners), _STRAGGLERS)
        await super().shutdown(sockets)

    def _no_connection(self) -> bool:
        return not self.server_state.connections

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until `done` or for `seconds`, whichever comes first; a second SIGINT cuts it short."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not done() and not self.force_exit and loop.time() < end:
            await asyncio.sleep(_TICK)


def _never() -> bool:
    return False


def _exit_even_if_threads_hang() -> None:
    """Give the interpreter a moment to end as usual; threads that still compute after the grace do not stop it."""

    def exit_hard() -> None:
        time.sleep(_EXIT_PATIENCE)
        os._exit(0)

    threading.Thread(target=exit_hard, daemon=True).start()
