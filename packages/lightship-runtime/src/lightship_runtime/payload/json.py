"""What goes in and out of `POST /predict`: from a body's bytes to instances, from predictions to an answer's bytes.

A body is one of

    [5.1, 3.5, 1.4, 0.2]                        one row of numbers
    [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]  several instances: rows, texts, objects
    {"instances": [...]}                        the same, with options beside it
    {"inputs": ...}                             the same; what is no list is one instance

and `"predict_proba": true`, or `?predict_proba=true`, asks for probabilities as well. The answer is always

    {"predictions": ["setosa"]}                 one prediction per instance, in order
    {"predictions": ["setosa"], "probabilities": [[0.98, 0.02]], "classes": ["setosa", "virginica"]}
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec

from lightship_runtime.engines.engine import Prediction, Signature
from lightship_runtime.payload.call import RequestError


class PredictRequest(msgspec.Struct, frozen=True):
    """Instances, and what is wanted for each."""

    instances: list[Any]
    probabilities: bool = False


class _Options(msgspec.Struct, forbid_unknown_fields=True):
    instances: list[Any] | msgspec.UnsetType = msgspec.UNSET
    inputs: Any = msgspec.UNSET
    predict_proba: bool = False


class _Answer(msgspec.Struct, omit_defaults=True):
    predictions: Any
    probabilities: Any = None
    classes: list[Any] | None = None


def parse_request(body: bytes, signature: Signature, *, probabilities: bool = False) -> PredictRequest:
    """Read a body. Raises RequestError where it is malformed, empty, or asks for what the model cannot give."""
    if not body:
        raise RequestError("The body is empty. Send JSON, such as a list of numbers.")
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError("The body is not valid JSON, or has a number out of range.") from error
    except RecursionError as error:
        raise RequestError("The body is nested too deeply.") from error
    if isinstance(content, dict):
        try:
            options = msgspec.convert(content, _Options)
        except msgspec.ValidationError as error:
            raise RequestError(
                "An object has a list `instances`, or `inputs`; it may have `predict_proba`, true or false; "
                "and it has nothing else."
            ) from error
        content = _only_one(options)
        probabilities = probabilities or options.predict_proba
    instances = _instances(content, signature)
    if not instances:
        raise RequestError("There is nothing to predict: the list is empty.")
    if probabilities and not signature.probabilities:
        raise RequestError("This model gives no probabilities.")
    return PredictRequest(instances, probabilities)


def wants_probabilities(query: bytes) -> bool:
    """Whether a URL's query asks for probabilities; other names in it are left to proxies and tracers."""
    if not query:
        return False
    try:
        values = parse_qs(query.decode("ascii"), keep_blank_values=True, max_num_fields=32).get("predict_proba", [])
    except ValueError as error:
        raise RequestError("The query is malformed.") from error
    if any(value.lower() not in ("", "1", "true", "0", "false") for value in values):
        raise RequestError("predict_proba is true or false.")
    return bool(values) and values[-1].lower() not in ("0", "false")


def encode_answer(prediction: Prediction) -> bytes:
    """The answer as JSON. Raises TypeError where a prediction is nothing that JSON can express."""
    answer = _Answer(prediction.predictions, prediction.probabilities, prediction.classes)
    return msgspec.json.encode(answer, enc_hook=_plain)


def _only_one(options: _Options) -> Any:
    if (options.instances is msgspec.UNSET) == (options.inputs is msgspec.UNSET):
        raise RequestError("An object needs exactly one of `instances` and `inputs`.")
    return options.inputs if options.instances is msgspec.UNSET else options.instances


def _instances(content: Any, signature: Signature) -> list[Any]:
    """A list of numbers is one row, and so is a list of any scalars where the model takes rows."""
    if not isinstance(content, list):
        return [content]
    if content and all(type(value) in (int, float) for value in content):
        return [content]
    if signature.rows and content and not any(isinstance(value, (list, dict)) for value in content):
        return [content]
    return content


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy, and whatever else can turn itself into plain lists and scalars."""
    for name in ("tolist", "item"):
        if convert := getattr(value, name, None):
            return convert()
    raise TypeError(f"a prediction of type {type(value).__name__} cannot be written as JSON")
