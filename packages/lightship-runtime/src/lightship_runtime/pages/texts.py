"""Routes of models of text in the OpenAPI document: /generate, and OpenAI's API below /v1. Only those that answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightship_runtime.pages import chat_schemas, embedding_schemas, text_schemas
from lightship_runtime.pages.schema import Schema, ref
from lightship_runtime.pages.settings import PageSettings

TAG = {"name": "texts", "description": "Ask the model as OpenAI's clients do, with `/v1` as their base URL."}
_FAILURES = (400, 404, 408, 413, 415, 429, 500, 503, 504)
_EVENTS: Schema = {
    "schema": {
        "type": "string",
        "description": "With `stream`: each part as an event, `data: {...}`; `data: [DONE]` is the last. Where the "
        "model fails midway that is an event with `error` instead.",
    }
}
_TOKENS = 64  # of examples
_PROMPT = {"prompt": "Once upon a time", "max_tokens": _TOKENS}
_MESSAGES = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": _TOKENS}
_INPUT = {"input": ["The ship is in the harbour.", "A boat lies at the quay."]}
_QUERY = ("prompt", "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "stream")


def described(settings: PageSettings, size: int | None, errors: Callable[..., Schema]) -> tuple[Schema, Schema]:
    """The routes and the schemas of a model that writes, or gives vectors of `size` numbers; empty for any other.

    `errors(settings, *statuses, schema=...)` makes the responses of failures.
    """
    if not settings.generates and size is None:
        return {}, {}
    schemas = {
        **(text_schemas.writing(settings) if settings.generates else {}),
        **(chat_schemas.chatting(settings) if settings.chats else {}),
        **(embedding_schemas.embedding(settings, size) if size is not None else {}),
        **embedding_schemas.MODELS,
    }
    texts = _Texts(settings, schemas, errors)
    paths: Schema = {}
    if settings.chats:
        paths["/v1/chat/completions"] = {
            "post": texts.post("chat", "The next message", "ChatRequest", "ChatCompletion", _MESSAGES)
        }
    if settings.generates:
        paths["/v1/completions"] = {
            "post": texts.post("completions", "What follows a prompt", "CompletionRequest", "Completion", _PROMPT)
        }
        summary = "Text, in the shortest form"
        paths["/generate"] = {
            "post": texts.post("generate", summary, "GenerateRequest", "GenerateAnswer", _PROMPT, error="Error"),
            "get": texts.queried("generate_query", "The same, asked by a link"),
        }
    if size is not None:
        paths["/v1/embeddings"] = {
            "post": texts.post(
                "embeddings", "Vectors for texts", "EmbeddingRequest", "Embeddings", _INPUT, streamed=False
            )
        }
    paths["/v1/models"] = {"get": texts.get("models", "The model, in a list", "Models", 503)}
    one = texts.get("model", "The model", "Model", 404, 503)
    name = {"name": "model", "in": "path", "required": True, "schema": {"enum": [settings.model]}}
    paths["/v1/models/{model}"] = {"get": {**one, "parameters": [{**name, "description": "The model's name."}]}}
    return paths, schemas


class _Texts:
    """Makes operations for one model."""

    def __init__(self, settings: PageSettings, schemas: Schema, errors: Callable[..., Schema]) -> None:
        self._settings = settings
        self._schemas = schemas
        self._errors = errors

    def post(
        self,
        name: str,
        summary: str,
        request: str,
        answer: str,
        example: dict[str, Any],
        *,
        error: str = "OpenAIError",
        streamed: bool = True,
    ) -> Schema:
        """An operation with a body."""
        known = self._known(example, self._schemas[request]["properties"])
        body = {
            "schema": ref(request),
            "examples": {"known": {"summary": "A body that this model is known to answer", "value": known}},
        }
        return {
            **_operation(name, summary),
            "requestBody": {"required": True, "content": {"application/json": body}},
            "responses": {
                "200": _answers(answer, streamed=streamed),
                **self._errors(self._settings, *_FAILURES, schema=error),
            },
        }

    def get(self, name: str, summary: str, answer: str, *statuses: int) -> Schema:
        """An operation without one, below /v1."""
        failures = self._errors(self._settings, *statuses, schema="OpenAIError")
        return {**_operation(name, summary), "responses": {"200": _answers(answer, streamed=False), **failures}}

    def queried(self, name: str, summary: str) -> Schema:
        """GET /generate."""
        properties = self._schemas["GenerateRequest"]["properties"]
        parameters: list[Schema] = [
            {
                "name": one,
                "in": "query",
                "required": one == "prompt",
                "schema": _single(properties[one]),
                "description": properties[one]["description"],
            }
            for one in _QUERY
        ]
        parameters[0]["example"] = _PROMPT["prompt"]
        return {
            **_operation(name, summary),
            "parameters": parameters,
            "responses": {
                "200": _answers("GenerateAnswer", streamed=True),
                **self._errors(self._settings, *_FAILURES),
            },
        }

    def _known(self, example: dict[str, Any], properties: Schema) -> dict[str, Any]:
        """The golden request where it is one of this form, else the example."""
        golden = self._settings.request
        if isinstance(golden, dict) and next(iter(example)) in golden:
            example = {name: value for name, value in golden.items() if name in properties and name != "stream"}
        elif "max_tokens" in example and self._settings.context is not None:
            example = {**example, "max_tokens": max(1, min(_TOKENS, self._settings.context // 2))}
        return {"model": self._settings.model, **example} if "model" in properties else example


def _operation(name: str, summary: str) -> Schema:
    return {"operationId": name, "tags": [TAG["name"]], "summary": summary}


def _single(schema: Schema) -> Schema:
    """A member's schema for a query, which has no null; several stop texts are several parameters."""
    if "anyOf" in schema:
        return {**next(one for one in schema["anyOf"] if one["type"] == "array"), "minItems": 1}
    kind = schema["type"]
    plain = {name: value for name, value in schema.items() if name != "description"}
    return {**plain, "type": kind[0] if isinstance(kind, list) else kind}


def _answers(answer: str, *, streamed: bool) -> Schema:
    content: Schema = {"application/json": {"schema": ref(answer)}}
    if streamed:
        content["text/event-stream"] = _EVENTS
    return {"description": "The answer.", "content": content}
