"""The event loop of the listening process: from its first connection to its last.

After SIGTERM or SIGINT: say `Connection: close` in every answer and go on accepting for a moment (`linger`), so that
clients with a kept connection move away between two requests, and balancers see that readiness is off before anyone
is turned away; let no new connection in, but read what the kernel has already accepted; stop listening; finish what
was accepted, for at most `grace` seconds. A second signal ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import uvloop

from lightship_runtime.config import Config
from lightship_runtime.frames import BIRTH_LIMIT, Hello, birth_decoder
from lightship_runtime.front.access import AccessLog
from lightship_runtime.front.api import Api
from lightship_runtime.front.auth import Keys
from lightship_runtime.front.connection import Connection, Settings
from lightship_runtime.front.dispatch import Dispatcher
from lightship_runtime.front.grpc import GrpcPort
from lightship_runtime.front.links import Link
from lightship_runtime.front.memory_watch import MemoryWatch
from lightship_runtime.front.metrics import Metrics
from lightship_runtime.front.state import State
from lightship_runtime.front.tls import tls_context
from lightship_runtime.front.tracing import start_tracing
from lightship_runtime.listener import BACKLOG, drop_new_connections, has_waiting
from lightship_runtime.log import Log, round_seconds, where

_TICK = 0.02  # seconds between two looks while draining
_CLOCK = 0.25  # seconds between two looks at what takes too long
_HANDSHAKE = 0.1  # seconds; handshakes under way are completed meanwhile, as long as one round trip takes
_STRAGGLERS = 0.2  # seconds in which a connection just accepted may send its request


def run(listener: socket.socket, birth: socket.socket, config: Config, keys: Keys, log: Log, started: float) -> int:
    """Serve until a signal comes, then drain. The exit status.

    `birth` is where workers introduce themselves; `started` the `time.monotonic()` of the server's start.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) if hasattr(asyncio, "Runner") else _Runner() as runner:
        return int(runner.run(_Front(listener, birth, config, keys, log, started).serve()))


class _Runner:
    """asyncio.Runner for Python 3.10."""

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def run(self, main: Any) -> Any:
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)


class _Front:
    def __init__(
        self, listener: socket.socket, birth: socket.socket, config: Config, keys: Keys, log: Log, started: float
    ) -> None:
        self._listener = listener
        self._birth = birth
        self._config = config
        self._keys = keys
        self._log = log
        self._started = started
        self._state = State()
        self._stop = asyncio.Event()
        self._signals = 0
        self._parent = os.getppid()
        self._group: int | None = None  # of the process with the model, and of whatever it has begun

    async def serve(self) -> int:
        loop = asyncio.get_running_loop()
        config = self._config
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.set_exception_handler(self._failed)
        metrics = Metrics(self._state)
        dispatcher = Dispatcher(
            queue=config.queue,
            queue_bytes=config.queue_bytes,
            queue_tokens=config.queue_tokens,
            timeout=config.timeout,
            batch=config.batch,
            batch_seconds=config.batch_seconds,
            observer=metrics,
            lost=self._lost,
            stuck=self._stuck,
        )
        self._dispatcher = dispatcher
        metrics.watch(dispatcher)
        tracing = start_tracing(os.environ, config.name)
        access = AccessLog(config.access_log, self._log)
        api = Api(config, self._state, dispatcher, metrics, self._keys, access, tracing)
        self._settings = settings = Settings(
            config.body_limit, config.head_timeout, config.body_timeout, api.accept, api.handle, api.finished
        )
        self._birth.setblocking(False)
        loop.add_reader(self._birth, self._born)
        server = await loop.create_server(
            lambda: Connection(settings), sock=self._listener, backlog=BACKLOG, ssl=tls_context(config)
        )
        grpc = GrpcPort(config, self._state, dispatcher, metrics, self._keys, api.model)
        if config.grpc_port is not None:
            await grpc.start()
        self._log.event("listening", port=config.port, seconds=self._since_start())
        clock = loop.create_task(self._clock())
        await self._stop.wait()
        await self._linger()
        await asyncio.gather(self._drain(server), grpc.stop(config.grace))
        clock.cancel()
        if tracing is not None:
            await loop.run_in_executor(None, tracing.close)
        self._end_orphans()
        self._log.event("stopped", unfinished=dispatcher.unfinished)
        return 0

    def _end_orphans(self) -> None:
        """End what the process with the model has begun, where the first process was killed and cannot.

        It would stay, and keep a GPU's memory.
        """
        if self._group not in (None, os.getpgrp()) and os.getppid() != self._parent:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a mistake of ours: what kind and where, for an exception's text may quote the request."""
        error = context.get("exception")
        cause = error.__context__ or error if isinstance(error, BaseException) else None
        self._log.event(
            "internal error",
            level="error",
            message=str(context.get("message")),
            error=type(cause).__name__ if cause else None,
            where=where(cause.__traceback__) if cause else None,
        )

    def _since_start(self) -> float:
        return round_seconds(time.monotonic() - self._started)

    # signals

    def _signalled(self) -> None:
        self._signals += 1
        self._stop.set()

    # processes

    def _born(self) -> None:
        """Read what processes say while they start, and take over the sockets of workers that are ready."""
        while True:
            try:
                content, descriptors, _, _ = socket.recv_fds(self._birth, BIRTH_LIMIT, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._log.event("log", level="error", message=f"the birth socket failed: {error.strerror}")
                return
            if not content:
                return
            message = birth_decoder.decode(content)
            if isinstance(message, Hello):
                link = socket.socket(fileno=descriptors[0])
                link.setblocking(False)
                task = asyncio.get_running_loop().create_task(self._welcome(message, link))
                task.add_done_callback(_ignore)
            else:
                self._state.phase = message.name
                self._state.done = message.done

    async def _welcome(self, hello: Hello, connection: socket.socket) -> None:
        state = self._state
        state.wanted = hello.workers
        state.signature = hello.signature
        state.streams = hello.streams
        state.abilities = hello.abilities
        state.golden = hello.golden
        for name, seconds in hello.phases.items():
            state.phases[name] = max(state.phases.get(name, 0.0), seconds)
        with contextlib.suppress(ProcessLookupError):
            self._group = os.getpgid(hello.pid)
        link = Link(self._dispatcher, hello.pid, hello.slots)
        if hello.abilities.context is not None:
            self._dispatcher.bound_tokens(hello.abilities.context * hello.slots * hello.workers)
        if not hello.batches:
            self._dispatcher.single()
        state.workers.add(hello.pid)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=connection)
        if not state.started and len(state.workers) >= state.wanted:
            state.started = True
            state.phases["total"] = self._since_start()
            self._log.event("ready", port=self._config.port, seconds=self._since_start())

    def _lost(self, pid: int, calls: int) -> None:
        self._state.workers.discard(pid)
        if not self._stop.is_set():
            self._log.event("worker ended", level="error", pid=pid, unfinished=calls)
            self._state.phase = "restarting"
        elif not self._state.workers:
            self._dispatcher.fail_waiting()  # nobody is left who could answer before the end

    def _stuck(self, pid: int) -> None:
        """A worker that goes on long after everybody has given up waiting is ended, and replaced by its parent."""
        self._log.event("worker stuck", level="error", pid=pid)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)

    # time

    async def _clock(self) -> None:
        memory = MemoryWatch(self._log)
        while True:
            await asyncio.sleep(_CLOCK)
            now = time.monotonic()
            self._dispatcher.expire(now)
            memory.check(now)
            for connection in list(self._settings.connections):
                connection.check(now)

    # the end

    async def _linger(self) -> None:
        """Say that this is the end, and go on: balancers send new connections until they see readiness go off."""
        self._state.draining = True
        settings = self._settings
        settings.draining = True
        self._log.event("draining", connections=len(settings.connections))
        if not self._state.workers:
            self._dispatcher.fail_waiting()
        if self._state.started:
            await self._until(_never, self._config.linger)

    async def _drain(self, server: Any) -> None:
        settings = self._settings
        drop_new_connections(self._listener)
        await asyncio.sleep(_HANDSHAKE if self._state.started else 0.0)
        await self._until(lambda: self._no_connection() and not has_waiting([self._listener]), _STRAGGLERS)
        server.close()
        for connection in list(settings.connections):
            connection.close_when_idle()
        await self._until(self._no_connection, self._config.grace)

    def _no_connection(self) -> bool:
        return not self._settings.connections

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until `done` or for `seconds`, whichever comes first; a second signal cuts it short."""
        end = time.monotonic() + seconds
        while not done() and self._signals < 2 and time.monotonic() < end:
            await asyncio.sleep(_TICK)


def _never() -> bool:
    return False


def _ignore(task: Any) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        task.result()
