"""Listens, and stops without losing a request.

After SIGTERM or SIGINT: say `Connection: close` in every answer and go on accepting for a moment (`linger`), so
that clients with a kept connection move away between two requests; let no new connection in, but read what the
kernel has already accepted; stop listening; finish what was accepted, for at most `grace` seconds. A second SIGINT
ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from lightship_runtime.config import Config
from lightship_runtime.errors import StartError
from lightship_runtime.listener import drop_new_connections, has_waiting
from lightship_runtime.log import Log, LoggingHandler

KEEP_ALIVE = 75  # seconds; longer than the usual 60 of load balancers, which must be the side that closes
_BACKLOG = 2048
_TICK = 0.02  # seconds between two looks while draining
_HANDSHAKE = 0.1  # seconds; handshakes under way are completed meanwhile, as long as one round trip takes
_STRAGGLERS = 0.2  # seconds in which a connection just accepted may send its request


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
    own = config.app is None
    server = _Server(
        uvicorn.Config(
            drain.wrap(app),
            lifespan="off" if own else "auto",
            ws="none" if own else "auto",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, int(config.grace)),
            backlog=_BACKLOG,
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
        await self._until(self._no_connection, self._linger)
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
