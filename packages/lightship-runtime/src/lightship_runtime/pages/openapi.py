"""The OpenAPI 3.1 document of one model's server: every route, its real schemas and examples, every status."""

from __future__ import annotations

from lightship_runtime.engines.engine import Signature
from lightship_runtime.pages import inference, schema
from lightship_runtime.pages.known import known_body, known_csv, known_instance
from lightship_runtime.pages.schema import Schema, ref
from lightship_runtime.pages.settings import PageSettings

CSV, NPY = "text/csv", "application/x-npy"
ARROW = ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file")
_STREAMS = {
    "text/event-stream": "Each part of the answer as an event, `data: JSON`; `event: end` is the last one. Where the "
    "model fails midway: `event: error` with an `Error`.",
    "application/x-ndjson": "Each part of the answer as a line of JSON; an `Error` where the model fails midway.",
}
_MIB = 1 << 20

# What may go wrong with a request whose body the model reads (RFC 9110's names, in words for people).
_ERRORS = {
    400: "The body is malformed, or does not fit the model. The message says where.",
    401: "The API key is missing or not known.",
    406: "None of the formats in `Accept` can be written.",
    408: "The body did not arrive in time.",
    413: "The body is larger than the limit.",
    415: "The format of the body, `Content-Type`, cannot be read.",
    429: "Too many requests are waiting. Try again after `Retry-After` seconds.",
    500: "The model failed on this request.",
    503: "The model is loading, the server is stopping, or the process that had the request has died.",
    504: "The answer was not there before the request's deadline.",
}
_RETRY = {
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
_CHALLENGE = {"WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}}}
_ROUTES = "An unknown path is answered with 404, another method with 405 and `Allow`; both with an `Error`."


def openapi_document(signature: Signature, settings: PageSettings) -> Schema:
    """The document as JSON values."""
    example = known_instance(signature, settings.request)
    paths: Schema = {"/predict": {"post": _predict(signature, settings)}}
    for path, words in _HEALTH.items():
        paths[path] = {"get": _health(words, path, settings)}
    paths.setdefault(settings.health, {"get": _health(_HEALTH["/health"], settings.health, settings)})
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
    components: Schema = {"schemas": schemas}
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": settings.model,
            "version": settings.version,
            **({"summary": settings.description} if settings.description else {}),
            "description": _ROUTES,
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
        },
    }
    if settings.inference:
        document["tags"].append(inference.TAG)
    if settings.keys:
        components["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer KEY`."}
        }
        document["security"] = [{"key": []}]
    return document


def errors(settings: PageSettings, *statuses: int) -> Schema:
    """The responses of an operation for these statuses, and 401 where keys are on."""
    responses = {}
    for status in sorted({*statuses, *((401,) if settings.keys else ())}):
        headers = _RETRY if status in (429, 503) else _CHALLENGE if status == 401 else None
        response: Schema = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": ref("Error")}},
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
            **errors(settings, *(status for status in _ERRORS if status != 401)),
        },
    }
    if signature.probabilities:
        operation["parameters"] = [
            {
                "name": "predict_proba",
                "in": "query",
                "schema": {"type": "boolean", "default": False},
                "description": "Whether to answer with one probability per class as well.",
            }
        ]
    return operation


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
            bodies[kind] = {}
        bodies["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "description": "A file for each instance.",
                "properties": {"file": {"type": "array", "minItems": 1, "items": {"contentMediaType": "*/*"}}},
                "required": ["file"],
            }
        }
    if signature.rows and "csv" in settings.formats:
        bodies[CSV] = {"schema": {"type": "string", "description": "A header line, then a line for each instance."}}
        if example := known_csv(signature, settings.request):
            bodies[CSV]["example"] = example
    if signature.kind in ("rows", "tensor") and "npy" in settings.formats:
        bodies[NPY] = {}
    if signature.rows and "arrow" in settings.formats:
        bodies.update({kind: {} for kind in ARROW})
    return bodies


def _answers(settings: PageSettings) -> Schema:
    answers: Schema = {"application/json": {"schema": ref("PredictAnswer")}}
    if "csv" in settings.formats:
        words = "A header line, then a line for each instance: `prediction`, and `probability_CLASS` where asked for."
        answers[CSV] = {"schema": {"type": "string", "description": words}}
    if "npy" in settings.formats:
        answers[NPY] = {}
    if "arrow" in settings.formats:
        answers.update({kind: {} for kind in ARROW})
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
        "status": {"type": "string", "description": "Such as ready, loading, draining or live."},
        "phase": {"type": "string", "description": "What is being done while the status is loading."},
    },
    "required": ["status"],
    "description": "How the server is.",
    "examples": [{"status": "ready"}],
}
_HEALTH = {
    "/health": ("ready", "Whether the model answers: 200 only then."),
    "/readyz": ("ready", "The same, by the name that Kubernetes' own servers use."),
    "/startupz": ("started", "Whether the model has been loaded: 200 from then on."),
    "/livez": ("live", "Whether the server lives, be the model ready or not."),
}


def _health(words: tuple[str, str], path: str, settings: PageSettings) -> Schema:
    word, sentence = words
    content = {"application/json": {"schema": ref("Health")}}
    operation: Schema = {
        "operationId": f"health_{path.strip('/').replace('/', '_').replace('-', '_')}",
        "tags": ["health"],
        "summary": sentence,
        "responses": {"200": {"description": f"It is {word}.", "content": content}},
    }
    if word == "live":
        operation["security"] = []
        return operation
    operation["responses"]["503"] = {"description": f"It is not {word}; the phase says why.", "content": content}
    operation["responses"].update(errors(settings))
    return operation


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
