"""The Open Inference Protocol v2 over HTTP in the OpenAPI document: the routes below /v2 for one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from lightship_runtime.engines.engine import Signature, TensorSpec
from lightship_runtime.pages.known import known_instance
from lightship_runtime.pages.schema import BINARY, Schema, ref
from lightship_runtime.pages.settings import PageSettings

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


def paths(signature: Signature, settings: PageSettings, errors: Callable[..., Schema]) -> Schema:
    """The routes; `errors(settings, *statuses)` makes the responses of failures."""
    model = f"/v2/models/{quote(settings.model, safe='')}"

    def get(name: str, summary: str, answer: str | None, *, unready: bool = False) -> Schema:
        ok: Schema = {"description": "Yes." if answer is None else "The description."}
        if answer:
            ok["content"] = {"application/json": {"schema": ref(answer)}}
        statuses = (503,) if unready else ()
        return {
            "get": {
                "operationId": name,
                "tags": [TAG["name"]],
                "summary": summary,
                "responses": {"200": ok, **errors(settings, *statuses)},
            }
        }

    live = get("v2_live", "Whether the server lives", None)
    live["get"]["security"] = []
    live["get"]["responses"].pop("401", None)
    return {
        "/v2": get("v2_server", "The server and its extensions", "ServerMetadata"),
        "/v2/health/live": live,
        "/v2/health/ready": get("v2_ready", "Whether all models are ready", None, unready=True),
        model: get("v2_model", "The model's inputs and outputs", "ModelMetadata", unready=True),
        f"{model}/ready": get("v2_model_ready", "Whether the model is ready", None, unready=True),
        f"{model}/infer": {"post": _infer(signature, settings, errors)},
    }


def _infer(signature: Signature, settings: PageSettings, errors: Callable[..., Schema]) -> Schema:
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
        "operationId": "v2_infer",
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
    if one is None or not signature.inputs:
        return None
    if len(signature.inputs) == 1:
        values = list(one.values()) if signature.rows and isinstance(one, dict) else one
        return {"inputs": [_tensor(signature.inputs[0], values)]}
    if isinstance(one, dict) and all(spec.name in one for spec in signature.inputs):
        return {"inputs": [_tensor(spec, one[spec.name]) for spec in signature.inputs]}
    return None


def _tensor(spec: TensorSpec, value: Any) -> Schema:
    """One instance as a tensor of the protocol."""
    shape = [1]
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": [value]}
