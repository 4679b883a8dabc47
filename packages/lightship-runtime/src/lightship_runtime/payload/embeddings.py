"""POST /v1/embeddings, OpenAI's form: texts to vectors.

    {"input": "a text" or ["several", "texts"], "model": "...", "encoding_format": "float" or "base64"}
    {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, ...]}], "model": "...",
     "usage": {"prompt_tokens": 3, "total_tokens": 3}}

base64 is the vector's little-endian 32-bit floats, as OpenAI's client asks for by itself. Inputs of token numbers are
refused: they are of OpenAI's own tokenisers. `usage` counts 0 where the engine counts no tokens.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from lightship_runtime.engines.engine import Options, Prediction, Signature
from lightship_runtime.payload.call import Answer, Call, RequestError
from lightship_runtime.payload.json import plain
from lightship_runtime.payload.openai_bodies import check_model, read, unsupported
from lightship_runtime.payload.parsed import Parsed

if TYPE_CHECKING:
    from lightship_runtime.payload.parsed import ServedModel

MOST_TEXTS = 2048  # in one request, as OpenAI's
_COUNTING = Options(tokens=True)


class _Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    input: str | list[Any]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    user: str | None = None


def gives_vectors(signature: Signature) -> int | None:
    """The length of the vector that a model gives for a text, -1 where it does not say; None where it gives none."""
    first = signature.outputs[0] if signature.outputs else None
    if signature.kind != "text" or first is None or len(first.shape) != 2:
        return None
    return first.shape[1] if first.datatype in ("FP16", "FP32", "FP64") else None


def parse_embeddings(call: Call, model: ServedModel) -> Parsed:
    """What a body wants. Raises RequestError."""
    size = gives_vectors(model.signature)
    if size is None:
        raise RequestError("This model gives no embeddings.", 404)
    body = read(call.body, _Body)
    check_model(body.model, model.name)
    if body.dimensions is not None and body.dimensions != size:
        raise unsupported("dimensions", f"This model's vectors have {size} dimensions." if size > 0 else "")
    texts = _texts(body.input)
    packed = body.encoding_format == "base64"

    def reply(prediction: Prediction, served: ServedModel) -> Answer:
        return Answer(200, _written(prediction, served.name, packed=packed))

    return Parsed(texts, _COUNTING, reply, len(texts))


def _texts(given: str | list[Any]) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise RequestError("Invalid 'input': the list is empty.", param="input", code="invalid_value")
    if len(texts) > MOST_TEXTS:
        raise RequestError(f"Invalid 'input': more than {MOST_TEXTS} texts.", param="input", code="invalid_value")
    if not all(isinstance(one, str) for one in texts):
        raise RequestError("Invalid 'input': send texts, not tokens.", param="input", code="invalid_value")
    if not all(texts):
        raise RequestError("Invalid 'input': a text is empty.", param="input", code="invalid_value")
    return texts


def _written(prediction: Prediction, name: str, *, packed: bool) -> bytes:
    vectors = prediction.predictions
    if not isinstance(vectors, list):
        rows = [row.astype("<f4").tobytes() for row in vectors] if packed else vectors.tolist()
    else:
        rows = [struct.pack(f"<{len(row)}f", *row) for row in vectors] if packed else vectors
    data = [
        {"object": "embedding", "index": index, "embedding": row}  # bytes are written as base64
        for index, row in enumerate(rows)
    ]
    tokens = sum(prediction.tokens or ())
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _ENCODER.encode({"object": "list", "data": data, "model": name, "usage": usage})


_ENCODER = msgspec.json.Encoder(enc_hook=plain)
