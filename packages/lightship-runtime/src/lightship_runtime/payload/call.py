"""A request and its answer as they travel between the process that listens and the one that has the model.

Only bytes and texts: whoever listens reads no body, so that it needs no library of arrays and no time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal
from typing import Protocol as TypingProtocol

import msgspec

Protocol = Literal["predict", "infer", "grpc", "embeddings", "generate", "completions", "chat"]
FAILURES = (Exception, SystemExit)  # a model's exit() must end neither a worker nor, unseen, one of its threads
GENERATING: frozenset[Protocol] = frozenset(("generate", "completions", "chat"))


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One request for the model.

    Attributes:
        protocol: "predict" for POST /predict, "infer" for the Open Inference Protocol over HTTP, "grpc" for its
            ModelInferRequest over gRPC; "embeddings", "completions" and "chat" for OpenAI's API, "generate" for
            /generate. Those in GENERATING are of models that write text.
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


class Generated(msgspec.Struct, frozen=True, array_like=True):
    """What writing the texts of one request took.

    Attributes:
        prompt_tokens: Of the request; each prompt is counted once.
        completion_tokens: That were written, whether or not somebody still waited for them.
        first: Seconds from the beginning of the work to the first token; None where there was none.
        seconds: From the beginning of the work to the last token.
        longest: Tokens of the longest text.
    """

    prompt_tokens: int
    completion_tokens: int
    first: float | None
    seconds: float
    longest: int


class Places:
    """How many texts of one call may be written at once: `granted`, which is one until more are given.

    One goes back with the end of each text, and may come again. `tell` is called with how many texts are not at their
    end yet, and how many places go back.
    """

    __slots__ = ("_left", "_lock", "_tell", "_wake", "granted")

    def __init__(self, tell: Callable[[int, int], None] = lambda left, back: None) -> None:
        self._tell = tell
        self._wake: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._left = 1
        self.granted = 1

    def want(self, texts: int, wake: Callable[[], None]) -> None:
        """So many texts, more than one, are to be written. `wake` is called when places are given for them."""
        self._wake = wake
        with self._lock:
            self._left = texts
            self._tell(texts, 0)

    def ended(self) -> None:
        """A text is at its end."""
        with self._lock:
            self._left -= 1
            self._give_back(self.granted - 1)

    def grant(self, places: int) -> None:
        """Let so many more texts be written at once; what is not needed any more goes back."""
        with self._lock:
            self.granted += places
            if self.granted > max(1, self._left):
                self._give_back(self._left)
        self._wake()

    def _give_back(self, kept: int) -> None:
        kept = max(1, min(kept, self._left))
        back, self.granted = self.granted - kept, kept
        self._tell(self._left, back)


class Awaited(TypingProtocol):
    """Something that comes from another thread."""

    def when_ready(self, wake: Callable[[], None]) -> bool:
        """Have `wake` called once, from any thread, when there is more. False where there is more already."""


class Outcome:
    """What is known of an answer in parts when it has ended; to be filled in by whoever makes the parts.

    Attributes:
        answer: The whole answer where parts were not asked for, else one without a body.
        generated: Of a text that a model has written.
        places: How many texts may be written at once, where several are asked for.
        follows: Set by whoever takes the parts, where it can come back for more when there is more.
        awaits: What the next part waits for, where `follows`; else whoever takes the parts waits while it asks.
    """

    __slots__ = ("answer", "awaits", "follows", "generated", "places")

    def __init__(self, places: Places | None = None, *, follows: bool = False) -> None:
        self.answer = Answer(200, b"")
        self.generated: Generated | None = None
        self.places = places or Places()
        self.follows = follows
        self.awaits: Awaited | None = None


class RequestError(Exception):
    """A request that cannot be answered. The message is sent to the client: it never quotes values or paths.

    Attributes:
        message: For people.
        status: Of HTTP.
        param: The member of the body that is wrong, for forms of errors that name it.
        code: A word for programs, in OpenAI's API.
    """

    def __init__(self, message: str, status: int = 400, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
