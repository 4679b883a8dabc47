"""The Open Inference Protocol v2 over HTTP in the OpenAPI document: the routes below /v2 for one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from lightship_runtime.engines.engine import Signature, TensorSpec
from lightship_runtime.pages.known import known_instance
from lightship_runtime.pages.schema import BINARY, Schema, ref
from lightship_runtime.pages.settings import PageSettings
from lightship_runtime.payload.metadata import model_inputs

TAG = {"name": "inference protocol", "description": "The Open Inference Protocol v2, as KServe's clients speak it."}
_DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES"),
)
_PARAMETERS: Schema = {"type": "object", "additionalProperties": {"type": ["boolean", "number", "string"]}}
_TENSOR: Schema = {
    "type": "object",
    "description": "Values with their shape and type.",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"enum": list(_DATATYPES)},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {}, "description": "The values, flat or nested."},
    },
    "required": ["name", "shape", "datatype"],
}
SCHEMAS: dict[str, Schema] = {
    "Tensor": _TENSOR,
    "InferRequest": {
        "type": "object",
        "description": "A tensor for each input, and which outputs are wanted.",
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": ref("Tensor"), "minItems": 1},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
                    "required": ["name"],
                },
            },
        },
        "required": ["inputs"],
    },
    "InferAnswer": {
        "type": "object",
        "description": "A tensor for each output.",
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": ref("Tensor")},
        },
        "required": ["model_name", "outputs"],
    },
    "ModelMetadata": {
        "type": "object",
        "description": "What the model takes and gives.",
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": ref("TensorMetadata")},
            "outputs": {"type": "array", "items": ref("TensorMetadata")},
        },
        "required": ["name", "platform", "inputs", "outputs"],
    },
    "TensorMetadata": {
        "type": "object",
        "description": "An input or output; -1 stands for any length.",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        },
        "required": ["name", "datatype", "shape"],
    },
    "ServerMetadata": {
        "type": "object",
        "description": "The server, and the extensions of the protocol that it knows.",
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "extensions": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name"],
    },
}


_LIVE: Schema = {"type": "object", "properties": {"live": {"type": "boolean"}}, "required": ["live"]}
_READY: Schema = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}


def paths(signature: Signature, settings: PageSettings, errors: Callable[..., Schema]) -> Schema:
    """The routes; `errors(settings, *statuses)` makes the responses of failures."""
    found = {
        "/v2": _get("v2_server", "The server and its extensions", ref("ServerMetadata"), errors(settings)),
        "/v2/health/live": _health("v2_live", "Whether the server lives", _LIVE),
        "/v2/health/ready": _health("v2_ready", "Whether the model is ready", _READY),
    }
    model = f"/v2/models/{quote(settings.model, safe='')}"
    for path, suffix in {model: "", f"{model}/versions/1": "_version"}.items():
        found |= {
            path: _get(
                f"v2_model{suffix}", "The model's inputs and outputs", ref("ModelMetadata"), errors(settings, 503)
            ),
            f"{path}/ready": _health(f"v2_model_ready{suffix}", "Whether the model is ready", _READY),
            f"{path}/infer": {"post": _infer(f"v2_infer{suffix}", signature, settings, errors)},
        }
    return found


def _get(name: str, summary: str, answer: Schema, failures: Schema) -> Schema:
    content = {"application/json": {"schema": answer}}
    return {
        "get": {
            "operationId": name,
            "tags": [TAG["name"]],
            "summary": summary,
            "responses": {"200": {"description": "The description.", "content": content}, **failures},
        }
    }


def _health(name: str, summary: str, answer: Schema) -> Schema:
    content = {"application/json": {"schema": answer}}
    found = _get(name, summary, answer, {})
    responses = {"200": {"description": "Yes.", "content": content}}
    if answer is _READY:
        responses["503"] = {"description": "No, or not any more.", "content": content}
    found["get"].update(responses=responses, security=[])
    return found


def _infer(name: str, signature: Signature, settings: PageSettings, errors: Callable[..., Schema]) -> Schema:
    json: Schema = {"schema": ref("InferRequest")}
    if example := _example(signature, settings):
        json["examples"] = {"known": {"summary": "A body that this model is known to answer", "value": example}}
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "integer", "minimum": 0},
        "description": "How many bytes of the body are JSON; the tensors' own bytes follow.",
    }
    return {
        "operationId": name,
        "tags": [TAG["name"]],
        "summary": "Predict from tensors",
        "parameters": [length],
        "requestBody": {"required": True, "content": {"application/json": json, "application/octet-stream": BINARY}},
        "responses": {
            "200": {
                "description": "A tensor for each output.",
                "content": {
                    "application/json": {"schema": ref("InferAnswer")},
                    "application/octet-stream": BINARY,
                },
            },
            **errors(settings, 400, 406, 408, 413, 415, 429, 500, 503, 504),
        },
    }


def _example(signature: Signature, settings: PageSettings) -> Schema | None:
    one = known_instance(signature, settings.request)
    if one is None:
        return None
    inputs = model_inputs(signature)
    if len(inputs) == 1:
        values = list(one.values()) if signature.rows and isinstance(one, dict) else one
        return {"inputs": [_tensor(inputs[0], values)]}
    if isinstance(one, dict) and all(spec.name in one for spec in inputs):
        return {"inputs": [_tensor(spec, one[spec.name]) for spec in inputs]}
    return None


def _tensor(spec: TensorSpec, value: Any) -> Schema:
    """One instance as a tensor of the protocol."""
    shape = [1]
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    shape += [1] * (len(spec.shape) - len(shape))  # a column for each input
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": _flat(value)}


def _flat(value: Any) -> list[Any]:
    return [inner for one in value for inner in _flat(one)] if isinstance(value, list) else [value]
