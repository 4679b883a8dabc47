"""A request and its answer as they travel between the process that listens and the one that has the model.

Only bytes and texts: whoever listens reads no body, so that it needs no library of arrays and no time.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Protocol = Literal["predict", "infer", "grpc"]


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One request for the model.

    Attributes:
        protocol: "predict" for POST /predict, "infer" for the Open Inference Protocol over HTTP, "grpc" for its
            ModelInferRequest over gRPC.
        body: As it arrived, whole.
        content_type: The header as it was sent, or "": what is in a boundary depends on case.
        accept: The header, lower case, or "".
        query: What follows `?`, or "".
        json_length: The header Inference-Header-Content-Length: how many bytes of the body are JSON, before the
            tensors' raw bytes; None where it was not sent.
    """

    protocol: Protocol
    body: bytes
    content_type: str = ""
    accept: str = ""
    query: str = ""
    json_length: int | None = None


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What is sent back: an HTTP status, a body and its type. For gRPC the body is a ModelInferResponse.

    Attributes:
        status: 200, or the HTTP status of the error.
        body: Whole.
        content_type: Of the body.
        json_length: As in `Call`, for answers with raw bytes behind the JSON.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    json_length: int | None = None


class RequestError(Exception):
    """A request that cannot be answered. The message is sent to the client: it never quotes values or paths."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
