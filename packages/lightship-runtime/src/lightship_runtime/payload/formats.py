"""The forms of `POST /predict`: which reader takes a body, and which writer gives the answer.

An answer has the form that the Accept header prefers. Where that leaves it open, an answer to CSV, Arrow or .npy has
the same form if it can be expressed in it, and every other answer is JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lightship_runtime.engines.engine import Prediction, Signature
from lightship_runtime.payload import arrow, csv, files, json, multipart, npy
from lightship_runtime.payload.call import Answer, Call, RequestError
from lightship_runtime.payload.media import MediaType, accepted, content_type
from lightship_runtime.payload.parsed import Content, Inexpressible, Parsed, Reply, ServedModel, understood
from lightship_runtime.payload.query import wants_probabilities

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"

_Reader = Callable[[bytes, MediaType, Signature], Content]
_READERS: dict[str, _Reader] = {
    JSON: lambda body, kind, signature: json.read(body, signature),
    CSV: csv.read,
    NPY: lambda body, kind, signature: npy.read(body, signature),
    ARROW_STREAM: lambda body, kind, signature: arrow.read_stream(body, signature),
    ARROW_FILE: lambda body, kind, signature: arrow.read_file(body, signature),
    "text/plain": files.read_text,
    "application/octet-stream": files.read_file,
    "multipart/form-data": multipart.read,
}
_WRITERS: dict[str, Reply] = {
    JSON: json.write,
    CSV: csv.write,
    ARROW_STREAM: arrow.write_stream,
    ARROW_FILE: arrow.write_file,
    NPY: npy.write,
}
_OFFERED = tuple(_WRITERS)
# As most clients send them: no header needs to be taken apart for these.
_JSON_TYPES = frozenset({"", JSON, f"{JSON}; charset=utf-8", f"{JSON};charset=utf-8"})
_ANYTHING = frozenset({"", "*/*", JSON, f"{JSON}, text/plain, */*", f"{JSON}, */*"})


def parse_predict(call: Call, model: ServedModel) -> Parsed:
    """A request to /predict. Raises RequestError."""
    signature = model.signature
    if call.content_type in _JSON_TYPES and call.accept in _ANYTHING:
        content = json.read(call.body, signature)
        return understood(content, wants_probabilities(call.query), json.write, signature)
    kind = content_type(call.content_type or JSON)
    own = JSON if kind.name.startswith("application/") and kind.name.endswith("+json") else kind.name
    reader = _READERS.get(own)
    if reader is None and own.partition("/")[0] in ("image", "audio"):
        reader = files.read_file
    if reader is None:
        raise RequestError(f"This Content-Type is not taken. Send one of {', '.join(_READERS)}.", 415)
    reply = _reply(call.accept, own)  # before the body is read: what cannot be answered needs no work
    probabilities = wants_probabilities(call.query)
    if not call.body:
        raise RequestError("The body is empty.")
    return understood(reader(call.body, kind, signature), probabilities, reply, signature)


def _reply(accept: str, own: str) -> Reply:
    offered = _OFFERED if own not in _WRITERS else (own, *(name for name in _OFFERED if name != own))
    names = accepted(accept, offered)
    if not names:
        raise RequestError(f"The answer can be one of {', '.join(_OFFERED)}.", 406)
    if names[0] == JSON:
        return json.write
    return partial(_first_that_can, tuple(_WRITERS[name] for name in names))


def _first_that_can(writers: tuple[Reply, ...], prediction: Prediction, model: ServedModel) -> Answer:
    for writer in writers:
        try:
            return writer(prediction, model)
        except (Inexpressible, RequestError):  # no such form, or no library for it in this image
            continue
    return json.write_error(RequestError("This answer cannot be expressed in the form that was asked for.", 406))
