"""Schemas of vectors for texts, of the list of models, and of errors in OpenAI's form."""

from __future__ import annotations

from lightship_runtime.pages.schema import Schema, ref
from lightship_runtime.pages.settings import PageSettings
from lightship_runtime.pages.text_schemas import USAGE, model_name, record
from lightship_runtime.payload.embeddings import MOST_TEXTS

ERROR: Schema = {
    "type": "object",
    "description": "Why there is no answer, in OpenAI's form.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string", "description": "What is wrong, in a sentence."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The member that is wrong."},
                "code": {"type": ["string", "null"], "description": "A word for programs."},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
MODELS: dict[str, Schema] = {
    "OpenAIError": ERROR,
    "Model": {
        "type": "object",
        "description": "The model of this server.",
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
            "max_model_len": {"type": "integer", "description": "Tokens that prompt and answer may have together."},
        },
        "required": ["id", "object", "created", "owned_by"],
    },
    "Models": {
        "type": "object",
        "description": "The one model that is here.",
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": ref("Model")}},
        "required": ["object", "data"],
    },
}


def embedding(settings: PageSettings, size: int) -> dict[str, Schema]:
    """The schemas of a model whose vectors have `size` numbers, -1 where it does not say."""
    text: Schema = {"type": "string", "minLength": 1}
    lengths = {} if size < 0 else {"minItems": size, "maxItems": size}
    vector: Schema = {
        "anyOf": [
            {"type": "array", "items": {"type": "number"}, **lengths},
            {"type": "string", "contentEncoding": "base64"},
        ],
        "description": "The vector: numbers, or the bytes of little-endian 32-bit floats.",
    }
    dimensions = {"dimensions": {"const": size, "description": "As they are."}} if size > 0 else {}
    return {
        "EmbeddingRequest": record(
            "One text, or several.",
            {
                "model": model_name(settings),
                "input": {
                    "anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": MOST_TEXTS}],
                    "description": "What to give vectors for.",
                },
                "encoding_format": {"enum": ["float", "base64", None], "description": "How vectors are written."},
                **dimensions,
            },
            ("input",),
        ),
        "Embedding": record(
            "The vector of one text.",
            {"object": {"const": "embedding"}, "index": {"type": "integer", "minimum": 0}, "embedding": vector},
            ("object", "index", "embedding"),
        ),
        "Embeddings": record(
            "A vector for each text, in order.",
            {
                "object": {"const": "list"},
                "data": {"type": "array", "items": ref("Embedding")},
                "model": {"type": "string"},
                "usage": ref("Usage"),
            },
            ("object", "data", "model", "usage"),
        ),
        "Usage": USAGE,
    }
