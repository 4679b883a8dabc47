"""What the pages must know beside the model's signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PageSettings:
    """What is on, and how it is called.

    Attributes:
        model: The model's name, as in /v2/models/NAME.
        version: The model's version, as people named it.
        description: A sentence or two about the model, as plain text; may be empty.
        keys: Whether requests need an API key, sent as `Authorization: Bearer KEY`.
        open_metrics: Whether /metrics is answered without a key all the same.
        streaming: Whether `POST /predict` streams to those who accept text/event-stream or application/x-ndjson.
        formats: The formats beside JSON that tables and tensors may come and go in: of csv, npy and arrow.
        inference: Whether the Open Inference Protocol is there, below /v2.
        metrics: Whether /metrics is there.
        health: A further path that answers like /health, where the user's configuration names one.
        body_limit: Largest body of a request, in bytes; None where it is not said.
        request: A body of `POST /predict` that the model is known to answer, such as the golden request; None where
            there is none.
        generates: Whether the model writes text, so that /generate and /v1/completions are there.
        chats: Whether it has a chat template, so that /v1/chat/completions is there.
        tools: Whether that has a place for tools.
        response_formats: Forms that it can keep its answers to.
        most_logprobs: Alternatives per token that it gives with log probabilities; None for none.
        heeds: Members of requests that not every engine heeds.
        context: Tokens that prompt and answer may have together; None where unknown.
    """

    model: str
    version: str = "1"
    description: str = ""
    keys: bool = False
    open_metrics: bool = False
    streaming: bool = False
    formats: tuple[str, ...] = ("csv", "npy", "arrow")
    inference: bool = True
    metrics: bool = True
    health: str = "/health"
    body_limit: int | None = None
    request: Any = None
    generates: bool = False
    chats: bool = False
    tools: bool = False
    response_formats: tuple[str, ...] = ()
    most_logprobs: int | None = None
    heeds: tuple[str, ...] = ()
    context: int | None = None
