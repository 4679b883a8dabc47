"""The HTTP interface of Lightship's own server.

    POST /predict     see the package `payload` for what goes in and comes out; `?stream=true` for parts as they come
    *    /generate    and OpenAI's API below /v1, for models of text: see `generation_routes`
    GET  /health      200 when ready, else 503 with the phase; also /readyz, and /startupz for the start alone
    GET  /livez       200 while the process runs, without a key
    GET  /metrics     for Prometheus
    GET  /            a page to try the model; /docs and /openapi.json describe all of this

Errors are `{"error": "..."}` with a 4xx or 5xx status, and tell nothing of the server's inside.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import msgspec

from lightship_runtime.config import Config
from lightship_runtime.front import metrics as prometheus
from lightship_runtime.front.access import AccessLog
from lightship_runtime.front.auth import FROM_PAGE, Keys
from lightship_runtime.front.cors import Cors
from lightship_runtime.front.dispatch import Dispatcher, Overloaded
from lightship_runtime.front.generation_routes import Events, GenerationRoutes
from lightship_runtime.front.inference import InferenceProtocol
from lightship_runtime.front.page_routes import Pages
from lightship_runtime.front.request import Request
from lightship_runtime.front.routes import Route, Routes
from lightship_runtime.front.state import State
from lightship_runtime.front.streaming import Stream, accepted_form, stream_form
from lightship_runtime.front.tracing import Tracing
from lightship_runtime.front.waiting import Pending
from lightship_runtime.payload.call import Answer, Call, Protocol, RequestError

if TYPE_CHECKING:
    from lightship_runtime.payload.parsed import ServedModel

PREDICT = "/predict"
_JSON = b"application/json"
_RETRY = b"retry-after: 1\r\n"
_CHALLENGE = b'www-authenticate: Bearer realm="lightship"\r\n'
_PROMPT = b'www-authenticate: Basic realm="The API key as the password; any name", charset="UTF-8"\r\n'
_UNKNOWN = "other"  # the route of metrics for paths that do not exist


class Api:
    """Routes requests, and sends predictions to the dispatcher."""

    def __init__(
        self,
        config: Config,
        state: State,
        dispatcher: Dispatcher,
        metrics: prometheus.Metrics,
        keys: Keys,
        access: AccessLog,
        tracing: Tracing | None = None,
    ) -> None:
        self._config = config
        self._state = state
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._keys = keys
        self._access = access
        self._tracing = tracing
        self._cors = Cors(config.cors)
        self._preflight = Route(("OPTIONS",), "preflight", self._cors.answer, open=True)
        self._texts: dict[bytes, str] = {}
        self._served: ServedModel | None = None
        self._generation = GenerationRoutes(config.name, state, self.call, self.submit)
        health = {config.health, "/health", "/readyz"}
        self.routes = Routes(
            [
                Route(("POST",), PREDICT, self._predict),
                *(Route(("GET",), path, self._ready, open=True) for path in sorted(health)),
                Route(("GET",), "/startupz", self._started, open=True),
                Route(("GET",), "/livez", self._live, open=True),
                Route(("GET",), "/metrics", self._metrics_text, open=config.metrics_open),
                *Pages(config, state, keys=bool(keys)).routes(),
                *InferenceProtocol(config.name, state, self.model, self._infer).routes(),
                *self._generation.routes(),
            ]
        )

    # what a connection calls

    def accept(self, request: Request) -> None:
        """Decide from the head whether the request will be refused."""
        if (identity := request.headers.get(b"x-request-id")) is not None:
            request.common = b"x-request-id: %s\r\n" % identity[:128]
        if self._cors:
            self._cors.note(request)
            if self._cors.is_preflight(request):
                request.route = self._preflight
                return
        self._generation.note(request)
        route, allowed = self.routes.find(request.method, request.path)
        request.route = route
        owner = self._owner(request) if self._keys and (route is None or not route.open) else ""
        request.owner = owner or ""
        if owner is None:
            request.refusal = (401, "A valid API key is needed: Authorization: Bearer <key>.")
            prompts = route is not None and route.typed and FROM_PAGE not in request.headers  # the page has its own
            request.refusal_headers = _CHALLENGE + _PROMPT if prompts else _CHALLENGE
        elif route is None and allowed:
            methods = ", ".join(allowed)
            request.refusal = (405, f"Use {methods} here.")
            request.refusal_headers = b"allow: %s\r\n" % methods.encode()
        elif request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            request.refusal = (415, "Send the body as it is, without a Content-Encoding.")
        elif route is None:
            request.refusal = (404, f"There is nothing here. Predictions are at POST {PREDICT}.")

    def _owner(self, request: Request) -> str | None:
        """The name of the key that it came with; None where it has no right one."""
        headers = request.headers
        if (request.route is not None and request.route.typed) or FROM_PAGE in headers:
            return self._keys.allows_browser(headers)
        return self._keys.allows(headers)

    def handle(self, request: Request) -> None:
        """Answer a complete request, now or later."""
        request.route.handler(request)

    def finished(self, request: Request) -> None:
        """Count and log an answer."""
        seconds = time.monotonic() - request.arrived
        route = request.route.name if request.route is not None else _UNKNOWN
        self._metrics.request(route, request.status, seconds)
        self._access.note(request, route, seconds)
        if self._tracing is not None:
            self._tracing.note(request, route, seconds)

    # handlers

    def _ready(self, request: Request) -> None:
        self._health(request, self._state.ready)

    def _started(self, request: Request) -> None:
        self._health(request, self._state.started)

    def _health(self, request: Request, well: bool) -> None:
        body = json.dumps(self._state.described(detail=not self._keys)).encode()
        request.respond(200 if well else 503, body)

    def _live(self, request: Request) -> None:
        request.respond(200, b'{"status":"live"}')

    def _metrics_text(self, request: Request) -> None:
        request.respond(200, self._metrics.text(), prometheus.CONTENT_TYPE)

    def _predict(self, request: Request) -> None:
        try:
            form = stream_form(request)
        except RequestError as error:
            request.fail(error.status, error.message)
            return
        if form is not None and self._state.signature is not None and not self._state.streams:
            if accepted_form(request) is None:
                request.fail(406, "This model gives its answers whole, not in parts.")
                return
            form = None  # whoever reads the body finds what else is accepted
        call = self.call("predict", request)
        if form is None:
            self.submit(request, call)
            return
        stream = Stream(request, form, self._config.heartbeat)
        call = msgspec.structs.replace(call, accept="")  # it asks for parts, which is no form of a whole answer
        self.submit(request, call, stream)

    def _infer(self, request: Request, json_length: int | None) -> None:
        self.submit(request, self.call("infer", request, json_length))

    def model(self) -> ServedModel | None:
        """The model as clients know it, once a worker has told of it."""
        if self._served is None and self._state.signature is not None:
            from lightship_runtime.engines.engine import Signature  # not before the port is open
            from lightship_runtime.payload.parsed import ServedModel

            assert self._config.model is not None
            signature = msgspec.json.decode(self._state.signature, type=Signature)
            self._served = ServedModel(self._config.name, signature, platform=self._config.model.engine)
        return self._served

    def call(self, protocol: Protocol, request: Request, json_length: int | None = None) -> Call:
        """The request as it is sent to a worker."""
        headers = request.headers
        return Call(
            protocol,
            request.body,
            self._text(headers.get(b"content-type", b"")),
            self._text(headers.get(b"accept", b"").lower()),
            request.query.decode("latin-1") if request.query else "",
            json_length,
        )

    def submit(self, request: Request, call: Call, stream: Stream | Events | None = None) -> None:
        """Have a call predicted, and its answer sent."""

        def answered(answer: Answer) -> None:
            if stream is not None and stream.end(answer):
                return
            extra = b""
            if answer.status in (429, 503):
                extra = _RETRY
            elif answer.json_length is not None:
                extra = b"inference-header-content-length: %d\r\n" % answer.json_length
            content_type = answer.content_type
            body = answer.body
            if request.reshape is not None and answer.status != 200:
                body = request.reshape(answer.status, body)
            request.respond(
                answer.status,
                body,
                _JSON if content_type == "application/json" else content_type.encode(),
                extra,
            )

        try:
            pending = self._dispatcher.submit(
                call, request.arrived, answered, stream.part if stream else None, request.owner
            )
        except Overloaded as error:
            request.fail(error.status, self._why(error), _RETRY)
            return
        request.gone = _Gone(self._dispatcher, pending)
        if stream is not None:
            stream.pace.use(lambda go: self._dispatcher.flow(pending, go))

    def _why(self, error: Overloaded) -> str:
        if error.status == 503 and not self._state.started:
            return f"The model is not ready: {self._state.phase}."
        return error.message

    def _text(self, value: bytes) -> str:
        """A header's value as text; the few that clients really send are remembered."""
        text = self._texts.get(value)
        if text is None:
            text = value.decode("latin-1")
            if len(self._texts) < 256 and len(value) < 256:
                self._texts[value] = text
        return text


class _Gone:
    """Cancels a call when its client goes away."""

    __slots__ = ("_dispatcher", "_pending")

    def __init__(self, dispatcher: Dispatcher, pending: Pending) -> None:
        self._dispatcher = dispatcher
        self._pending = pending

    def __call__(self) -> None:
        self._dispatcher.cancel(self._pending)
