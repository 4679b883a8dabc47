"""The Open Inference Protocol over HTTP: health and metadata from what the workers have said, predictions from them.

GET  /v2                                    GET  /v2/models/<name>[/versions/1]
GET  /v2/health/live, /v2/health/ready      GET  /v2/models/<name>[/versions/1]/ready
                                            POST /v2/models/<name>[/versions/1]/infer
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from lightship_runtime.front.request import Request
from lightship_runtime.front.routes import Route
from lightship_runtime.front.state import State

if TYPE_CHECKING:
    from lightship_runtime.payload.parsed import ServedModel

JSON_LENGTH = b"inference-header-content-length"
_VERSION = "1"


class InferenceProtocol:
    """The routes of one model. `infer` sends a request on to a worker, with how many bytes of its body are JSON."""

    def __init__(
        self,
        name: str,
        state: State,
        model: Callable[[], ServedModel | None],
        infer: Callable[[Request, int | None], None],
    ) -> None:
        self._state = state
        self._model = model
        self._infer = infer
        self._paths = [f"/v2/models/{name}", f"/v2/models/{name}/versions/{_VERSION}"]

    def routes(self) -> list[Route]:
        """All paths of the protocol for this model."""
        found = [
            Route(("GET",), "/v2", self._server),
            Route(("GET",), "/v2/health/live", self._live, open=True),
            Route(("GET",), "/v2/health/ready", self._ready, open=True),
        ]
        for path in self._paths:
            found += [
                Route(("GET",), path, self._metadata),
                Route(("GET",), f"{path}/ready", self._ready, open=True),
                Route(("POST",), f"{path}/infer", self._predict),
            ]
        return found

    def _server(self, request: Request) -> None:
        from lightship_runtime.payload.metadata import server_metadata

        request.respond(200, json.dumps(server_metadata()).encode())

    def _live(self, request: Request) -> None:
        request.respond(200, b'{"live":true}')

    def _ready(self, request: Request) -> None:
        ready = self._state.ready
        request.respond(200 if ready else 503, b'{"ready":true}' if ready else b'{"ready":false}')

    def _metadata(self, request: Request) -> None:
        model = self._model()
        if model is None:
            request.fail(503, f"The model is not ready: {self._state.phase}.", b"retry-after: 1\r\n")
            return
        from lightship_runtime.payload.metadata import model_metadata

        request.respond(200, json.dumps(model_metadata(model)).encode())

    def _predict(self, request: Request) -> None:
        given = request.headers.get(JSON_LENGTH)
        if given is None:
            self._infer(request, None)
        elif given.isdigit() and len(given) < 12:
            self._infer(request, int(given))
        else:
            request.fail(400, "Inference-Header-Content-Length is not a number.")
