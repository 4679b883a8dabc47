"""OpenAI's API and /generate, for models that write text or give a vector for one.

    GET|POST /generate           POST /v1/completions           POST /v1/embeddings
    GET /v1/models[/<name>]      POST /v1/chat/completions

A text is always worked on as a stream: whether its parts are wanted stands in the body, which nobody reads here. So
whoever goes away ends the work. Parts are server-sent events, `data: {...}`, and at the end `data: [DONE]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lightship_runtime.front.request import Request
from lightship_runtime.front.routes import Route
from lightship_runtime.front.state import State
from lightship_runtime.front.streaming import HEADERS, TYPES, Pace
from lightship_runtime.payload.call import Answer, Call, Protocol
from lightship_runtime.payload.openai_errors import error_body, reshaped

PREFIX = "/v1/"
_RETRY = b"retry-after: 1\r\n"


class Events:
    """One text as server-sent events; or, where no part comes, as one answer."""

    __slots__ = ("_request", "pace")

    def __init__(self, request: Request) -> None:
        self._request = request
        self.pace = Pace(request)

    def part(self, content: bytes) -> None:
        """Send a part, a JSON object."""
        self._request.begin(200, TYPES["events"], HEADERS)
        self._request.send(b"data: %s\n\n" % content)
        self.pace.sent()

    def end(self, answer: Answer) -> bool:
        """Send the end. False where nothing was sent yet, so that the answer is to be sent as it is."""
        request = self._request
        if not request.status:
            return False
        if answer.status == 200:
            request.send(b"data: [DONE]\n\n")
        else:
            body = request.reshape(answer.status, answer.body) if request.reshape else answer.body
            request.send(b"data: %s\n\n" % body)
        request.end()
        return True


class GenerationRoutes:
    """The routes of one model. `call` makes a request a Call, `submit` has it answered."""

    def __init__(
        self,
        name: str,
        state: State,
        call: Callable[[Protocol, Request], Call],
        submit: Callable[[Request, Call, Events | None], None],
    ) -> None:
        self._name = name
        self._state = state
        self._call = call
        self._submit = submit
        self._created = int(time.time())

    def routes(self) -> list[Route]:
        """All paths. Where the model has nothing to do with them they are answered as if they were not there."""
        return [
            Route(("GET", "POST"), "/generate", self._generate),
            Route(("GET",), "/v1/models", self._models),
            Route(("GET",), "/v1/models/*", self._model),
            Route(("POST",), "/v1/completions", self._completions),
            Route(("POST",), "/v1/chat/completions", self._chat),
            Route(("POST",), "/v1/embeddings", self._embeddings),
        ]

    def note(self, request: Request) -> None:
        """Have errors in OpenAI's form where the path is one of its API, and there may be such an API."""
        if request.path.startswith(PREFIX):
            abilities = self._state.abilities
            if self._state.signature is None or abilities.generates or abilities.embeds:
                request.reshape = reshaped

    def _generate(self, request: Request) -> None:
        if request.method == "HEAD":  # comes with GET, and would have a text written for nobody
            request.fail(405, "Use GET, POST here.", b"allow: GET, POST\r\n")
            return
        self._write("generate", request)

    def _completions(self, request: Request) -> None:
        self._write("completions", request)

    def _chat(self, request: Request) -> None:
        self._write("chat", request)

    def _write(self, protocol: Protocol, request: Request) -> None:
        if self._there(request, self._state.abilities.generates):
            self._submit(request, self._call(protocol, request), Events(request))

    def _embeddings(self, request: Request) -> None:
        if self._there(request, self._state.abilities.embeds):
            self._submit(request, self._call("embeddings", request), None)

    def _models(self, request: Request) -> None:
        abilities = self._state.abilities
        if self._there(request, abilities.generates or abilities.embeds):
            import json

            request.respond(200, json.dumps({"object": "list", "data": [self._described()]}).encode())

    def _model(self, request: Request) -> None:
        abilities = self._state.abilities
        if not self._there(request, abilities.generates or abilities.embeds):
            return
        if request.path.removeprefix("/v1/models/") == self._name:
            import json

            request.respond(200, json.dumps(self._described()).encode())
        else:
            message = f"There is no such model. This server has '{self._name}'."
            request.respond(404, error_body(404, message, "model", "model_not_found"))

    def _described(self) -> dict[str, object]:
        told: dict[str, object] = {
            "id": self._name,
            "object": "model",
            "created": self._created,
            "owned_by": "lightship",
        }
        if self._state.abilities.context is not None:
            told["max_model_len"] = self._state.abilities.context  # not OpenAI's; as other servers of models call it
        return told

    def _there(self, request: Request, able: bool) -> bool:
        """Whether the model can be asked this; answers the request where not."""
        if self._state.signature is None:
            request.fail(503, f"The model is not ready: {self._state.phase}.", _RETRY)
        elif not able:
            request.fail(404, "There is nothing here for this model.")
        else:
            return True
        return False
