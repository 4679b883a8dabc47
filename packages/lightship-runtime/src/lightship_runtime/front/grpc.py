"""gRPC beside HTTP: the same queue, limits and keys, at a port of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightship_runtime.config import Config
from lightship_runtime.front.auth import Keys
from lightship_runtime.front.dispatch import Dispatcher, Overloaded
from lightship_runtime.front.metrics import Metrics
from lightship_runtime.front.state import State
from lightship_runtime.payload.call import Answer, Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightship_runtime.payload.parsed import ServedModel

ROUTE = "grpc"  # in metrics


class GrpcPort:
    """The second port. Nothing of gRPC is imported before `start`."""

    def __init__(
        self,
        config: Config,
        state: State,
        dispatcher: Dispatcher,
        metrics: Metrics,
        keys: Keys,
        model: Callable[[], ServedModel | None],
    ) -> None:
        self._config = config
        self._state = state
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._keys = keys
        self._model = model
        self._server: Any = None

    async def start(self) -> None:
        """Listen. Raises StartError."""
        from lightship_runtime.grpc_server import InferenceService, start_grpc_server

        config = self._config
        assert config.grpc_port is not None
        service = InferenceService(self._submit, lambda: self._state.ready, self._model, self._allowed)
        host = f"[{config.host}]" if ":" in config.host else config.host
        self._server, _ = await start_grpc_server(
            service,
            f"{host}:{config.grpc_port}",
            message_limit=config.body_limit,
            concurrency=config.queue + config.batch,
            credentials=self._credentials(),
        )

    async def stop(self, grace: float) -> None:
        """Take no more calls, and finish those under way."""
        if self._server is not None:
            await self._server.stop(grace)

    def _credentials(self) -> Any:
        if self._config.tls_certificate is None:
            return None
        import grpc

        certificate = Path(self._config.tls_certificate).read_bytes()
        key = Path(self._config.tls_key).read_bytes() if self._config.tls_key else certificate
        return grpc.ssl_server_credentials([(key, certificate)])

    def _allowed(self, metadata: Mapping[str, str]) -> bool:
        if not self._keys:
            return True
        return self._keys.allows({name.encode(): value.encode() for name, value in metadata.items()}) is not None

    async def _submit(self, call: Call) -> Answer:
        arrived = time.monotonic()
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answer(given: Answer) -> None:
            if not answered.done():
                answered.set_result(given)

        try:
            pending = self._dispatcher.submit(call, arrived, answer)
        except Overloaded as error:
            result = Answer(error.status, b'{"error":"%s"}' % error.message.encode())
        else:
            try:
                result = await answered
            except asyncio.CancelledError:  # the client has gone, or its deadline has passed
                self._dispatcher.cancel(pending)
                raise
        self._metrics.request(ROUTE, result.status, time.monotonic() - arrived)
        return result
