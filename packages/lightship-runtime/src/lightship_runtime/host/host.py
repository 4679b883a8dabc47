"""The process that loads the model and has the workers: forks of itself where the engine survives that.

With an engine that does, the model is loaded and warmed up once, while every thread pool has one thread, and the
workers share its memory; they may have more threads, because no pool exists yet when they are forked. A worker that
cannot predict after the fork is noticed, and all load the model by themselves instead. A worker that ends is
replaced; workers that keep ending are given up with an error.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

import msgspec

from lightship_runtime.config import Config
from lightship_runtime.engines import Engine, find_engine
from lightship_runtime.errors import CrashLoop, StartError
from lightship_runtime.frames import BIRTH_LIMIT, Abilities, Hello, Phase, encode
from lightship_runtime.host.loading import Loaded, load, warm_up
from lightship_runtime.host.worker import Worker
from lightship_runtime.log import Log, log_warnings, where
from lightship_runtime.supervisor import end_with_parent, leave
from lightship_runtime.threads import set_threads

FORK_SECONDS = 20.0  # in which a worker must predict after its fork, beside ten times what the warm-up took
GONE_SECONDS = 1.0  # a worker ends with 0 when the process that listens has gone: this one is ended meanwhile, too
CRASHES = 5  # ends of workers within CRASH_SECONDS, after which the server gives up
CRASH_SECONDS = 60.0


def run(
    config: Config, app: Path, cpus: int, birth: socket.socket, environ: MutableMapping[str, str], log: Log
) -> int:
    """Load, have workers, and replace those that end. The exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the process that listens decides when it is over
    try:
        return _Host(config, app, cpus, birth, environ, log).run()
    except StartError as error:
        log.event("failed", level="error", message=error.message, hint=error.hint)
        return error.exit_code


class _Host:
    def __init__(
        self,
        config: Config,
        app: Path,
        cpus: int,
        birth: socket.socket,
        environ: MutableMapping[str, str],
        log: Log,
    ) -> None:
        self._config = config
        self._app = app
        self._cpus = cpus
        self._birth = birth
        self._environ = environ
        self._log = log
        self._threads = config.threads or max(1, cpus // config.workers)
        self._ends: list[float] = []

    def run(self) -> int:
        config = self._config
        assert config.model is not None
        os.chdir(self._app)
        sys.path[:] = [str(self._app), *(entry for entry in sys.path if entry not in ("", str(self._app)))]
        kind = find_engine(config.model.engine)
        fork = kind.forking()
        shared = fork == "safe" or (fork == "one thread" and config.workers > 1)
        if shared if config.share is None else config.share:
            return self._share()
        if config.workers == 1:
            loaded = self._load(self._threads)
            self._serve(loaded, shared=False)
            return 0
        reason = "its engine cannot be shared with a forked process" if fork == "never" else "no need"
        self._log.event("each worker loads the model", reason=reason, engine=config.model.engine)
        return self._keep(self._load_and_serve, one_by_one=True)

    # ways to have workers

    def _share(self) -> int:
        """Load once, fork the workers."""
        loaded = self._load(1)
        gc.collect()
        gc.freeze()  # what is there now is never looked at again by the collector, so that its pages stay shared
        patience = FORK_SECONDS + 10 * loaded.phases.get("warm-up", 0.0)

        def child(told: Callable[[], None]) -> None:
            set_threads(self._environ, self._threads)
            loaded.engine.set_threads(self._threads)
            if loaded.golden is not None:
                warm_up(loaded.answering, loaded.golden, self._config, self._log)
            told()
            self._serve(loaded, shared=True)

        return self._keep(child, patience=patience)

    def _load_and_serve(self, told: Callable[[], None]) -> None:
        loaded = self._load(self._threads)
        told()
        self._serve(loaded, shared=False)

    def _keep(
        self, child: Callable[[Callable[[], None]], None], *, patience: float | None = None, one_by_one: bool = False
    ) -> int:
        """Have as many children as there should be workers, always. Ends only with an error."""
        children: dict[int, int] = {}  # process number to the pipe on which it says that it works
        while True:
            while len(children) < self._config.workers:
                pid, pipe = self._fork(child)
                children[pid] = pipe
                if (patience is not None or one_by_one) and not _says_so(pipe, patience):
                    os.kill(pid, signal.SIGKILL)
                    code = _reap(pid)
                    os.close(children.pop(pid))
                    if code > 0:
                        return code  # it has said why in the log
                    self._log.event(
                        "each worker loads the model",
                        level="warning",
                        reason="a forked worker did not predict",
                        seconds=patience,
                    )
                    for other in children:
                        os.kill(other, signal.SIGKILL)
                        _reap(other)
                    return self._keep(self._load_and_serve, one_by_one=True)
            pid, status = os.wait()
            if pid in children:
                os.close(children.pop(pid))
                self._ended(os.waitstatus_to_exitcode(status))

    def _ended(self, code: int) -> None:
        """Note the end of a worker. Raises CrashLoop where there were too many."""
        if code == 0:
            time.sleep(GONE_SECONDS)
        now = time.monotonic()
        self._ends = [end for end in self._ends if now - end < CRASH_SECONDS] + [now]
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        if len(self._ends) >= CRASHES:
            hint = "SIGKILL is often the kernel's answer to too little memory." if code == -signal.SIGKILL else None
            raise CrashLoop(
                f"{CRASHES} workers have ended within {CRASH_SECONDS:.0f} seconds, the last one by {how}.", hint=hint
            )
        self._log.event("worker is replaced", level="warning", ended=how)
        time.sleep(0.05 * len(self._ends))

    def _fork(self, child: Callable[[Callable[[], None]], None]) -> tuple[int, int]:
        """Fork a child that runs `child`. Its number, and a pipe on which it writes when it works."""
        reader, writer = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            os.close(writer)
            return pid, reader
        code = 1
        try:
            os.close(reader)
            end_with_parent(parent, signal.SIGKILL)
            child(lambda: _say_so(writer))
            code = 0
        except StartError as error:
            self._log.event("failed", level="error", message=error.message, hint=error.hint)
            code = error.exit_code
        except BaseException as error:
            self._log.event(
                "process failed", level="error", error=type(error).__name__, where=where(error.__traceback__)
            )
        finally:
            leave(code)

    # one worker

    def _load(self, threads: int) -> Loaded:
        assert self._config.model is not None
        # Before anything is imported that reads them.
        set_threads(self._environ, threads, find_engine(self._config.model.engine).environment)
        log_warnings(self._log, text=True)
        loaded = load(self._config, self._app, threads, self._log, self._announce)
        log_warnings(self._log, text=False)
        return loaded

    def _serve(self, loaded: Loaded, *, shared: bool) -> None:
        """Introduce this process to the one that listens, and answer its calls."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        engine = loaded.engine
        slots = self._config.concurrency or engine.slots
        hello = Hello(
            os.getpid(),
            self._config.workers,
            slots,
            engine.batches and self._config.batch > 1,
            engine.streams,
            _signature(engine),
            loaded.golden.body if loaded.golden is not None and len(loaded.golden.body) < BIRTH_LIMIT // 4 else None,
            loaded.phases,
            shared,
            _abilities(engine),
        )
        socket.send_fds(self._birth, [encode(hello)], [theirs.fileno()])
        theirs.close()
        if not shared:
            engine.set_threads(self._threads)
        worker = Worker(mine, loaded.answering, slots, streams=engine.streams)

        def lost(reason: str) -> None:
            self._log.event("model lost", level="error", reason=reason)
            worker.end()  # and with it this process, which is replaced

        engine.watch(lost)
        worker.run()

    def _announce(self, phase: str, done: float | None) -> None:
        self._birth.send(encode(Phase(phase, done)))


def _abilities(engine: Engine) -> Abilities:
    from lightship_runtime.generation.engine import GenerationEngine
    from lightship_runtime.payload.embeddings import gives_vectors

    embeds = gives_vectors(engine.signature) is not None
    if not isinstance(engine, GenerationEngine):
        return Abilities(embeds=embeds)
    return Abilities(
        generates=True,
        embeds=embeds,
        context=engine.context,
        chats=engine.chats,
        tools=engine.tools,
        response_formats=tuple(sorted(engine.response_formats)),
        most_logprobs=engine.most_logprobs,
        heeds=tuple(sorted(engine.heeds)),
    )


def _signature(engine: Engine) -> bytes:
    import dataclasses

    def plain(value: object) -> object:
        return value.item() if hasattr(value, "item") else str(value)

    return msgspec.json.encode(dataclasses.asdict(engine.signature), enc_hook=plain)


def _say_so(pipe: int) -> None:
    os.write(pipe, b"\n")


def _says_so(pipe: int, patience: float | None) -> bool:
    """Whether a child says that it works before it ends or the time is over."""
    ready, _, _ = select.select([pipe], [], [], patience)
    return bool(ready) and os.read(pipe, 1) == b"\n"


def _reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
