"""What a request became, and for which model: the values that all formats share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

import msgspec

from lightship_runtime.engines.engine import Instances, Options, Prediction, Signature
from lightship_runtime.payload.call import Answer, RequestError

PLAIN = Options()
_PROBABILITIES = Options(probabilities=True)
_WORDS = {"text": "a text", "image": "an image", "audio": "a sound"}
_TYPES = {"text": str, "image": bytes, "audio": bytes}


@dataclass(frozen=True)
class ServedModel:
    """The model as clients know it.

    Attributes:
        name: In the URLs of the Open Inference Protocol, and in its answers.
        signature: What it takes and gives.
        version: The only one there is.
        platform: The engine's name, such as "sklearn"; "" where it is nobody's business.
    """

    name: str
    signature: Signature
    version: str = "1"
    platform: str = ""


# Lists, objects and rows that one request may become in Python, where each takes about 100 bytes and may have come in
# 2 bytes, or in a bit. Arrays may be as long as the body.
MAX_LISTS = 1 << 20

Reply: TypeAlias = "Callable[[Prediction, ServedModel], Answer]"


class Inexpressible(Exception):
    """This prediction has no form in this format; another one may do."""


class Content(msgspec.Struct, frozen=True):
    """What a reader of one format found in a body: instances, and the wishes that the body itself expresses."""

    instances: Instances
    probabilities: bool = False
    parameters: Mapping[str, Any] | None = None


class Parsed(msgspec.Struct, frozen=True):
    """A request, understood.

    Attributes:
        instances: At least one.
        options: Requests with equal options may share one call of the engine.
        reply: Writes the answer in the form that this request wants.
        count: How many instances there are: as we counted them, whatever the request says.
    """

    instances: Instances
    options: Options
    reply: Reply
    count: int


def understood(content: Content, probabilities: bool, reply: Reply, signature: Signature) -> Parsed:
    """Put together what a body and its query say. Raises RequestError where the model cannot do that."""
    count = len(content.instances)
    if not count:
        raise RequestError("There is nothing to predict: the list is empty.")
    if signature.kind in _TYPES and not all(type(one) is _TYPES[signature.kind] for one in content.instances):
        raise RequestError(f"Every instance must be {_WORDS[signature.kind]}.")
    if signature.kind in ("image", "audio") and not all(content.instances):
        raise RequestError("A file is empty.")
    if content.probabilities:
        probabilities = True
    if probabilities and not signature.probabilities:
        raise RequestError("This model gives no probabilities.")
    if content.parameters:
        options = Options(probabilities, content.parameters)
    else:
        options = _PROBABILITIES if probabilities else PLAIN
    return Parsed(content.instances, options, reply, count)


def bounded(lists: int) -> None:
    """Raises RequestError (413) where a body would become more lists than are taken: before they are made."""
    if lists > MAX_LISTS:
        raise RequestError(
            f"The body has more than {MAX_LISTS:,} rows, lists or objects. Send one array, as application/x-npy.", 413
        )


def need(library: str, media_type: str) -> Any:
    """A library that a format stands on. Raises RequestError (415) where the image lacks it."""
    try:
        return import_module(library)
    except ImportError as error:
        raise RequestError(
            f"{media_type} needs {library}, which this image does not have. Send JSON.", 415
        ) from error
