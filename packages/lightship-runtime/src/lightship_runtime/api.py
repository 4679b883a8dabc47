"""The HTTP interface around a predictor, as a plain ASGI application: no framework stands between socket and model.

    POST /predict     predictions; payload.py has the forms of body and answer
    GET  /health      200 {"status": "ready"}, or 503 while the server drains (also at the configured health path)
    GET  /readyz      the same
    GET  /livez       200 as long as the event loop turns

Errors are {"error": "..."} with a 4xx or 5xx status, and tell nothing of the server's inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from lightship_runtime.config import Config
from lightship_runtime.payload import RequestError, wants_probabilities
from lightship_runtime.predictor import PATH, Predictor, Workers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_DISCARDED = 8  # times the body limit that is read and dropped, so that the client gets to read the 413


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Api:
    """Routes requests. `draining()` tells whether the server is on its way out."""

    def __init__(self, predictor: Predictor, workers: Workers, config: Config, draining: Callable[[], bool]) -> None:
        self._predictor = predictor
        self._workers = workers
        self._config = config
        self._draining = draining
        self._routes: dict[str, tuple[tuple[str, ...], Handler]] = {
            config.health: (("GET", "HEAD"), self._ready),
            "/health": (("GET", "HEAD"), self._ready),
            "/readyz": (("GET", "HEAD"), self._ready),
            "/livez": (("GET", "HEAD"), self._live),
            PATH: (("POST",), self._predict),
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            methods, handler = self._routes.get(scope["path"], ((), _not_found))
            if methods and scope["method"] not in methods:
                allowed = ", ".join(methods)
                raise _Refused(f"Use {allowed} here.", 405, (b"allow", allowed.encode()))
            await handler(scope, receive, send)
        except _Refused as error:
            await respond_error(send, error.status, error.message, error.header)
        except RequestError as error:
            header = (b"retry-after", b"1") if error.status == 429 else None
            await respond_error(send, error.status, error.message, header)
        except ClientGone:
            pass

    async def _ready(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        status, word = (503, "draining") if self._draining() else (200, "ready")
        await respond(send, status, msgspec.json.encode({"status": word}))

    async def _live(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await respond(send, 200, b'{"status":"live"}')

    async def _predict(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        _check_type(headers.get(b"content-type"))
        probabilities = wants_probabilities(scope["query_string"])
        body = await self._body(headers, receive)
        answer = await self._workers.run(lambda: self._predictor.answer(body, probabilities=probabilities))
        await respond(send, 200, answer)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self._config.body_limit
        announced = headers.get(b"content-length", b"")
        too_large = announced.isdigit() and int(announced) > limit
        if too_large and (b"expect" in headers or int(announced) > limit * _DISCARDED):
            raise RequestError(_too_large(limit), status=413)  # the client waits, or would send for too long
        try:
            body, size = await asyncio.wait_for(_read(receive, limit), self._config.body_timeout)
        except asyncio.TimeoutError:
            raise RequestError("The body did not arrive in time.", status=408) from None
        if size > limit:
            raise RequestError(_too_large(limit), status=413)
        return body


class _Refused(RequestError):
    """A refusal with a header that explains it."""

    def __init__(self, message: str, status: int, header: tuple[bytes, bytes]) -> None:
        super().__init__(message, status)
        self.header = header


async def respond(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    """Send a JSON answer, whole."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, status: int, message: str, header: tuple[bytes, bytes] | None = None) -> None:
    """Send an error; after 408 and 413 the rest of the body is unread, so the connection cannot be used again."""
    extra = [header] if header else []
    if status in (408, 413):
        extra.append((b"connection", b"close"))
    await respond(send, status, msgspec.json.encode({"error": message}), *extra)


async def _not_found(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    raise RequestError(f"There is nothing here. Predictions are at POST {PATH}.", status=404)


async def _read(receive: Receive, limit: int) -> tuple[bytes, int]:
    """The body and its size. Of a body beyond the limit nothing is kept, and at most 8 times the limit is read."""
    chunks: list[bytes] = []
    size = 0
    while size <= limit * _DISCARDED:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            chunks.clear()
        else:
            chunks.append(chunk)
        if not message.get("more_body", False):
            break
    return b"".join(chunks), size


def _check_type(content_type: bytes | None) -> None:
    """JSON, or nothing said, which is taken for JSON."""
    kind = (content_type or b"application/json").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise RequestError("Send JSON, with the header Content-Type: application/json.", status=415)


def _too_large(limit: int) -> str:
    return f"The body is larger than {limit} bytes."
