"""The Open Inference Protocol over gRPC, for the process that listens: the extra `grpc` of lightship-runtime.

A prediction's message is handed on as the bytes that arrived, and its answer sent as the bytes that came back; only
the small messages about health and metadata are made here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from lightship_runtime.errors import StartError
from lightship_runtime.payload.call import Answer, Call
from lightship_runtime.payload.grpc_messages import SERVICE, messages
from lightship_runtime.payload.metadata import model_metadata, server_metadata
from lightship_runtime.payload.parsed import ServedModel

# HTTP statuses of Answers as gRPC's.
_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class InferenceService:
    """The protocol's six calls.

    Args:
        submit: Answers a Call; cancelled when the client goes away or its deadline passes.
        ready: Whether predictions are answered now.
        model: The model, once it is loaded; None before.
        allowed: Whether a request with this metadata (names in lower case) may do more than ask for liveness.
    """

    def __init__(
        self,
        submit: Callable[[Call], Awaitable[Answer]],
        ready: Callable[[], bool],
        model: Callable[[], ServedModel | None],
        allowed: Callable[[Mapping[str, str]], bool] = lambda metadata: True,
    ) -> None:
        self._submit = submit
        self._ready = ready
        self._model = model
        self._allowed = allowed

    def handler(self) -> Any:
        """For `grpc.aio.Server.add_generic_rpc_handlers`. Messages stay bytes: nothing is decoded on the way in."""
        import grpc

        calls = {
            "ServerLive": self._server_live,
            "ServerReady": self._guarded(self._server_ready),
            "ModelReady": self._guarded(self._model_ready),
            "ServerMetadata": self._guarded(self._server_metadata),
            "ModelMetadata": self._guarded(self._model_metadata),
            "ModelInfer": self._guarded(self._model_infer),
        }
        handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _guarded(self, call: Callable[[bytes, Any], Awaitable[bytes]]) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def guarded(request: bytes, context: Any) -> bytes:
            metadata = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
            if not self._allowed(metadata):
                await _abort(context, "UNAUTHENTICATED", "An API key is needed.")
            return await call(request, context)

        return guarded

    async def _server_live(self, request: bytes, context: Any) -> bytes:
        return _bytes(messages().ServerLiveResponse(live=True))

    async def _server_ready(self, request: bytes, context: Any) -> bytes:
        return _bytes(messages().ServerReadyResponse(ready=self._ready()))

    async def _model_ready(self, request: bytes, context: Any) -> bytes:
        model = self._model()
        if model is not None:
            await self._named(request, messages().ModelReadyRequest, model, context)
        return _bytes(messages().ModelReadyResponse(ready=model is not None and self._ready()))

    async def _server_metadata(self, request: bytes, context: Any) -> bytes:
        return _bytes(messages().ServerMetadataResponse(**server_metadata()))

    async def _model_metadata(self, request: bytes, context: Any) -> bytes:
        model = self._model()
        if model is None:
            await _abort(context, "UNAVAILABLE", "The model is still loading.")
        assert model is not None
        await self._named(request, messages().ModelMetadataRequest, model, context)
        return _bytes(messages().ModelMetadataResponse(**model_metadata(model)))

    async def _model_infer(self, request: bytes, context: Any) -> bytes:
        answer = await self._submit(Call("grpc", request))
        if answer.status != 200:
            content = msgspec.json.decode(answer.body, type=dict[str, str])
            await _abort(context, _STATUSES.get(answer.status, "INVALID_ARGUMENT"), content.get("error", ""))
        return answer.body

    async def _named(self, request: bytes, kind: Any, model: ServedModel, context: Any) -> None:
        """Abort unless a request is for this model."""
        from google.protobuf.message import DecodeError

        asked = kind()
        try:
            asked.ParseFromString(request)
        except (DecodeError, UnicodeDecodeError):
            await _abort(context, "INVALID_ARGUMENT", "The message is malformed.")
        if asked.name != model.name or asked.version not in ("", model.version):
            await _abort(context, "NOT_FOUND", "There is no model of that name and version.")


async def start_grpc_server(
    service: InferenceService, address: str, *, message_limit: int, concurrency: int, credentials: Any = None
) -> tuple[Any, int]:
    """Listen at `address`, such as "0.0.0.0:9000"; the server, whose `stop(grace)` drains it, and its port.

    Args:
        message_limit: Bytes of a request. Compressed messages are refused, since a few bytes could claim any size.
        concurrency: Requests at once; further ones get RESOURCE_EXHAUSTED at once.
        credentials: Of `grpc.ssl_server_credentials`, where the connection is encrypted.

    Raises StartError where the extra is missing or the address is taken.
    """
    try:
        from grpc import aio

        messages()
    except ImportError as error:
        raise StartError(
            f"gRPC needs the package {error.name or 'grpcio'}, which cannot be imported: {error}.",
            hint="Add lightship-runtime[grpc] to the requirements and build again, or turn gRPC off.",
        ) from error
    server = aio.server(
        options=(
            ("grpc.max_receive_message_length", message_limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 16 << 10),  # bytes
            ("grpc.compression_enabled_algorithms_bitset", 1),  # identity only
            ("grpc.so_reuseport", 0),
        ),
        maximum_concurrent_rpcs=concurrency,
    )
    server.add_generic_rpc_handlers((service.handler(),))
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise StartError(
            f"gRPC cannot listen at {address}.", hint="Is another program listening there? Choose another port."
        ) from error
    await server.start()
    return server, port


async def _abort(context: Any, status: str, message: str) -> None:
    import grpc

    await context.abort(getattr(grpc.StatusCode, status), message)


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
