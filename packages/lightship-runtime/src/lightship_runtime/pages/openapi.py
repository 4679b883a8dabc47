"""The OpenAPI 3.1 document of one model's server: every route, its real schemas and examples, every status."""

from __future__ import annotations

import re

from lightship_runtime.engines.engine import Signature
from lightship_runtime.pages import inference, schema, texts
from lightship_runtime.pages.known import known_body, known_csv, known_instance
from lightship_runtime.pages.schema import Schema, ref
from lightship_runtime.pages.settings import PageSettings
from lightship_runtime.payload.embeddings import gives_vectors

CSV, NPY = "text/csv", "application/x-npy"
ARROW = ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file")
_STREAMS = {
    "text/event-stream": "Each part of the answer as an event, `data: JSON`; `event: done` is the last. Where the "
    "model fails midway it is `event: error`, with an `Error`.",
    "application/x-ndjson": "Each part of the answer as a line of JSON; an `Error` where the model fails midway.",
}
_MIB = 1 << 20

# What may go wrong with a request whose body the model reads (RFC 9110's names, in words for people).
_ERRORS = {
    400: "The body is malformed, or does not fit the model. The message says where.",
    401: "The API key is missing or not known.",
    404: "There is no model of this name, or the model cannot do this.",
    406: "None of the formats in `Accept` can be written.",
    408: "The body did not arrive in time.",
    413: "The body is larger than the limit.",
    415: "The format of the body, `Content-Type`, cannot be read.",
    429: "Too many requests are waiting. Try again after `Retry-After` seconds.",
    500: "The model failed on this request.",
    503: "The model is loading, the server is stopping, or the process that had the request has died.",
    504: "The answer was not there before the request's deadline.",
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer KEY`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same in another header."},
}
_RETRY = {
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
_CHALLENGE = {"WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}}}
_ANYWHERE = (
    "Every error is an `Error`, below /v1 an `OpenAIError`. Anywhere may come: 404 for an unknown path, 405 for "
    "another method, 400 for what is not valid HTTP, 408 for a request that does not arrive in time, 413 and 431 for "
    "a body or head too large."
)


def openapi_document(signature: Signature, settings: PageSettings) -> Schema:
    """The document as JSON values."""
    example = known_instance(signature, settings.request)
    paths: Schema = {"/predict": {"post": _predict(signature, settings)}}
    for path, summary in {settings.health: _HEALTH["/health"], **_HEALTH}.items():
        paths[path] = {"get": _health(path, summary)}
    if settings.metrics:
        paths["/metrics"] = {"get": _metrics(settings)}
    schemas = {
        **schema.request(signature, example),
        **schema.answer(signature),
        "Error": _ERROR,
        "Health": _STATUS,
    }
    if settings.inference:
        paths.update(inference.paths(signature, settings, errors))
        schemas.update(inference.SCHEMAS)
    of_texts, more = texts.described(settings, gives_vectors(signature), errors)
    paths.update(of_texts)
    schemas.update(more)
    components: Schema = {"schemas": schemas}
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": settings.model,
            "version": settings.version,
            **({"summary": settings.description} if settings.description else {}),
            "description": _ANYWHERE,
        },
        "tags": [
            {"name": "predictions", "description": "Ask the model."},
            {"name": "health", "description": "Whether the server lives and the model is ready."},
        ],
        "paths": paths,
        "components": components,
        # For the page at /, which makes its form of it.
        "x-model": {
            "kind": signature.kind,
            "probabilities": signature.probabilities,
            "streaming": settings.streaming,
            "files": list(schema.FILES.get(signature.kind, ())),
            "writes": settings.generates,
            "chats": settings.chats,
            "context": settings.context,
        },
    }
    if of_texts:
        document["tags"].insert(0, texts.TAG)
    if settings.inference:
        document["tags"].append(inference.TAG)
    if settings.keys:
        components["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    return document


def errors(settings: PageSettings, *statuses: int, schema: str = "Error") -> Schema:
    """The responses of an operation for these statuses, and 401 where keys are on; `schema` is the errors' name."""
    responses = {}
    for status in sorted({*statuses, *((401,) if settings.keys else ())}):
        headers = _RETRY if status in (429, 503) else _CHALLENGE if status == 401 else None
        response: Schema = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": ref(schema)}},
        }
        responses[str(status)] = {**response, "headers": headers} if headers else response
    return responses


def _predict(signature: Signature, settings: PageSettings) -> Schema:
    limit = settings.body_limit
    operation: Schema = {
        "operationId": "predict",
        "tags": ["predictions"],
        "summary": "Predict",
        "description": "One prediction for each instance, in the order of the instances."
        + (f" A body has at most {limit / _MIB:.4g} MiB." if limit else ""),
        "requestBody": {"required": True, "content": _bodies(signature, settings)},
        "responses": {
            "200": {"description": "The predictions.", "content": _answers(settings)},
            **errors(settings, *(status for status in _ERRORS if status not in (401, 404))),
        },
    }
    parameters = []
    if signature.probabilities:
        words = "Whether to answer with one probability per class as well."
        parameters.append(_flag("predict_proba", words))
    if settings.streaming:
        words = "Whether to answer in parts, as they come: the same as `Accept: text/event-stream`."
        parameters.append(_flag("stream", words))
    if parameters:
        operation["parameters"] = parameters
    return operation


def _flag(name: str, description: str) -> Schema:
    return {
        "name": name,
        "in": "query",
        "schema": {"type": "boolean", "default": False},
        "description": description,
    }


def _bodies(signature: Signature, settings: PageSettings) -> Schema:
    json: Schema = {"schema": ref("PredictRequest")}
    body = known_body(signature, settings.request)
    if body is not None:
        json["examples"] = {"known": {"summary": "A body that this model is known to answer", "value": body}}
    bodies: Schema = {"application/json": json}
    if signature.kind == "text":
        bodies["text/plain"] = {"schema": {"type": "string", "minLength": 1, "description": "One text."}}
    if signature.kind in schema.FILES:
        for kind in schema.FILES[signature.kind]:
            bodies[kind] = schema.BINARY
        bodies["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "description": "A file for each instance.",
                "properties": {"file": {"type": "array", "minItems": 1, "items": schema.BINARY["schema"]}},
                "required": ["file"],
            }
        }
    if signature.rows and "csv" in settings.formats:
        bodies[CSV] = {"schema": {"type": "string", "description": "A header line, then a line for each instance."}}
        if example := known_csv(signature, settings.request):
            bodies[CSV]["example"] = example
    if signature.kind in ("rows", "tensor") and "npy" in settings.formats:
        bodies[NPY] = schema.BINARY
    if signature.rows and "arrow" in settings.formats:
        bodies.update(dict.fromkeys(ARROW, schema.BINARY))
    return bodies


def _answers(settings: PageSettings) -> Schema:
    answers: Schema = {"application/json": {"schema": ref("PredictAnswer")}}
    if "csv" in settings.formats:
        words = "A header line, then a line for each instance: `prediction`, and `probability_CLASS` where asked for."
        answers[CSV] = {"schema": {"type": "string", "description": words}}
    if "npy" in settings.formats:
        answers[NPY] = schema.BINARY
    if "arrow" in settings.formats:
        answers.update(dict.fromkeys(ARROW, schema.BINARY))
    if settings.streaming:
        for kind, words in _STREAMS.items():
            answers[kind] = {"schema": {"type": "string", "description": words}}
    return answers


_ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "What is wrong, in a sentence."}},
    "required": ["error"],
    "description": "Why there is no answer.",
    "examples": [{"error": "Row 1 has 3 values; 4 are expected."}],
}
_STATUS: Schema = {
    "type": "object",
    "properties": {
        "status": {"enum": ["starting", "ready", "recovering", "draining", "live"]},
        "phase": {"type": "string", "description": "What is being done before it is ready, where no key is needed."},
        "done": {"type": "number", "minimum": 0, "maximum": 1, "description": "How much of the phase, where known."},
    },
    "required": ["status"],
    "description": "How the server is.",
    "examples": [{"status": "ready"}, {"status": "starting", "phase": "load", "done": 0.62}],
}
_HEALTH = {
    "/health": "Whether the model answers: 200 only then",
    "/readyz": "The same, by the name that Kubernetes' own servers use",
    "/startupz": "Whether the model has been loaded: 200 from then on",
    "/livez": "Whether the server lives, be the model ready or not",
}


def _health(path: str, summary: str) -> Schema:
    content = {"application/json": {"schema": ref("Health")}}
    responses = {"200": {"description": "Yes.", "content": content}}
    if path != "/livez":
        responses["503"] = {"description": "No, and what is being done about it.", "content": content}
    return {
        "operationId": re.sub("[^A-Za-z0-9]+", "_", path.strip("/")),
        "tags": ["health"],
        "summary": summary,
        "responses": responses,
        "security": [],
    }


def _metrics(settings: PageSettings) -> Schema:
    operation: Schema = {
        "operationId": "metrics",
        "tags": ["health"],
        "summary": "Counts and times for Prometheus",
        "responses": {
            "200": {
                "description": "Prometheus' text format.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        },
    }
    if settings.open_metrics:
        operation["security"] = []
    else:
        operation["responses"].update(errors(settings))
    return operation
