"""JSON, in and out of `POST /predict`.

A body is one of

    [5.1, 3.5, 1.4, 0.2]                        one row of numbers
    [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]  several instances: rows, texts, objects
    {"instances": [...]}                        the same, with options beside it
    {"inputs": ...}                             the same; what is no list is one instance

or a table with named columns, in the ways that pandas, MLflow and KServe write it

    [{"a": 1, "b": 2}, ...]                     records; also as "instances" or "dataframe_records"
    {"a": [1, ...], "b": [2, ...]}              columns; also as "columns" or "inputs"
    {"columns": ["a", "b"], "data": [[1, 2]]}   split; also as "dataframe_split"

Beside them may stand `"predict_proba": true`, which asks for probabilities as well, and `"parameters": {...}` for the
model. Images and sounds are base64 texts, or objects {"b64": "..."} around them. The answer is always

    {"predictions": ["setosa"]}                 one prediction per instance, in order
    {"predictions": ["setosa"], "probabilities": [[0.98, 0.02]], "classes": ["setosa", "virginica"]}

JSON has no NaN and no infinity: both are null.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from lightship_runtime.engines.engine import Prediction, Signature
from lightship_runtime.payload.call import Answer, Protocol, RequestError
from lightship_runtime.payload.openai_errors import openai_error
from lightship_runtime.payload.parsed import MAX_LISTS, Content, ServedModel, bounded
from lightship_runtime.payload.tables import column_names, from_columns, from_split

_FORMS = ("instances", "inputs", "dataframe_records", "dataframe_split", "columns")
_NUMBERS = msgspec.json.Decoder(list[int | float])


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = None


class _Members(msgspec.Struct, forbid_unknown_fields=True):
    """An object that is no table by itself."""

    instances: list[Any] | msgspec.UnsetType = msgspec.UNSET
    inputs: Any = msgspec.UNSET
    dataframe_records: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    dataframe_split: _Split | msgspec.UnsetType = msgspec.UNSET
    columns: dict[str, list[Any]] | list[str] | msgspec.UnsetType = msgspec.UNSET
    data: list[list[Any]] | msgspec.UnsetType = msgspec.UNSET
    index: list[Any] | None = None
    predict_proba: bool = False
    parameters: dict[str, Any] | None = None
    params: dict[str, Any] | None = None  # MLflow's word


class _Answer(msgspec.Struct, omit_defaults=True):
    predictions: Any
    probabilities: Any = None
    classes: list[Any] | None = None


def read(body: bytes, signature: Signature) -> Content:
    """The instances in a body. Raises RequestError where it is malformed or none of the forms."""
    if signature.kind == "rows" and body[:1] == b"[" and body[1:2] not in b'[{"':
        # The most frequent request by far, one row of numbers: checked while it is decoded.
        try:
            row = _NUMBERS.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # null, a text, or malformed
        else:
            return Content([row] if row else [])
    content = decode(body)
    if not isinstance(content, dict):
        return Content(_instances(content, signature))
    table = _bare_table(content, signature)
    if table is not None:
        return Content(table)
    if signature.kind in ("image", "audio") and content.keys() == {"b64"}:
        return Content(_instances(content, signature))
    try:
        members = msgspec.convert(content, _Members)
    except msgspec.ValidationError as error:
        raise RequestError(
            "An object has one of `instances` (a list), `inputs`, `dataframe_records`, `dataframe_split` or "
            "`columns`; it may have `predict_proba` (true or false) and `parameters` (an object); and it has "
            "nothing else."
        ) from error
    return Content(_of_members(members, signature), members.predict_proba, members.parameters or members.params)


def decode(body: bytes) -> Any:
    """JSON as Python values. Raises RequestError."""
    if not body:
        raise RequestError("The body is empty. Send JSON, such as a list of numbers.")
    bounded_json(body, len(body))
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError("The body is not valid JSON, or has a number out of range.") from error
    except RecursionError as error:
        raise RequestError("The body is nested too deeply.") from error


def bounded_json(body: bytes, length: int) -> None:
    """Raises RequestError (413) where the JSON at a body's start has more lists and objects than are taken."""
    if length > MAX_LISTS:
        bounded(body.count(b"[", 0, length) + body.count(b"{", 0, length))


def write(prediction: Prediction, model: ServedModel) -> Answer:
    """The answer as JSON. Raises TypeError where a prediction is nothing that JSON can express."""
    del model
    answer = _Answer(prediction.predictions, prediction.probabilities, prediction.classes)
    return Answer(200, _ENCODER.encode(answer))


def write_error(error: RequestError, protocol: Protocol = "predict") -> Answer:
    """The answer to a request that cannot be answered, in the form that its protocol has for errors."""
    if protocol in ("embeddings", "completions", "chat"):
        return openai_error(error)
    return Answer(error.status, msgspec.json.encode({"error": error.message}))


def plain(value: Any) -> Any:
    """Numbers and arrays of numpy, and whatever else can turn itself into plain lists and scalars."""
    for name in ("tolist", "item"):
        if convert := getattr(value, name, None):
            return convert()
    raise TypeError(f"a prediction of type {type(value).__name__} cannot be written as JSON")


_ENCODER = msgspec.json.Encoder(enc_hook=plain)


def _of_members(members: _Members, signature: Signature) -> list[Any]:
    given = [name for name in _FORMS if getattr(members, name) is not msgspec.UNSET]
    if len(given) != 1:
        raise RequestError("An object needs exactly one of `instances` and `inputs`, or a table in one of its forms.")
    split = members.dataframe_split
    if isinstance(members.columns, list) and members.data is not msgspec.UNSET:
        split = _Split(members.columns, members.data)
    elif isinstance(members.columns, list) or members.data is not msgspec.UNSET:
        raise RequestError("`columns` as a list of names needs `data`, a list of rows, and the other way round.")
    if split is not msgspec.UNSET:
        return from_split(split.columns, split.data, signature)
    if isinstance(members.columns, dict):
        return from_columns(members.columns, signature)
    if members.dataframe_records is not msgspec.UNSET:
        return members.dataframe_records
    if members.instances is not msgspec.UNSET:
        return _instances(members.instances, signature)
    if isinstance(members.inputs, dict):
        table = _bare_table(members.inputs, signature)
        if table is not None:
            return table
    return _instances(members.inputs, signature)


def _bare_table(content: dict[str, Any], signature: Signature) -> list[Any] | None:
    """An object whose members are the model's own columns: of lists, of scalars, or of objects by index (pandas)."""
    names = column_names(signature)
    if not signature.rows or names is None or content.keys() != set(names):
        return None
    values = list(content.values())
    if all(isinstance(value, list) for value in values):
        return from_columns(content, signature)
    if all(isinstance(value, dict) for value in values):
        indexes = list(values[0])
        if any(list(value) != indexes for value in values):
            raise RequestError("The columns must have the same index.")
        return from_columns({name: list(value.values()) for name, value in content.items()}, signature)
    return [content]


def _instances(content: Any, signature: Signature) -> list[Any]:
    """The instances, where one may stand by itself: how deep its lists go tells one from several."""
    if signature.kind in ("image", "audio"):
        return [_file(value) for value in (content if isinstance(content, list) else [content])]
    return content if isinstance(content, list) and not _is_one(content, signature) else [content]


def _is_one(content: list[Any], signature: Signature) -> bool:
    """Whether a list is one instance. A list of numbers is, and so is one of any scalars where rows are taken.

    Of a tensor with more dimensions than that of the instances, the depth of the lists tells.
    """
    if not content:
        return False
    if signature.rows:
        return not any(isinstance(value, (list, dict)) for value in content)
    if signature.kind == "tensor" and len(signature.inputs) == 1 and len(signature.inputs[0].shape) > 1:
        depth, value = 0, content
        while isinstance(value, list) and value:
            depth, value = depth + 1, value[0]
        return depth == len(signature.inputs[0].shape) - 1
    return all(type(value) in (int, float) for value in content)


def _file(value: Any) -> bytes:
    """An image or a sound in base64; {"b64": "..."} as TensorFlow Serving writes it. Nothing is ever fetched."""
    if isinstance(value, dict) and len(value) == 1 and "b64" not in value:
        (value,) = value.values()
    if isinstance(value, dict) and value.keys() == {"b64"}:
        value = value["b64"]
    if not isinstance(value, str):
        raise RequestError('Every instance must be a file in base64: a text, or {"b64": "..."}.')
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise RequestError("A file is not valid base64. (URLs are not fetched: send the file itself.)") from error
