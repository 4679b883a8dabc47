"""What the processes of one server say to each other: length-prefixed msgpack over Unix sockets, never a pickle.

The listening process (`front`) sends `Work` to a worker, which sends `Done` for each, in any order. Before that
each worker introduces itself on the `birth` socket, a datagram socket that all processes inherit: `Hello`, with the
worker's own socket attached. How far a start has come is said there too: `Phase`.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

import msgspec

from lightship_runtime.payload.call import Answer, Call, Generated

_LENGTH = struct.Struct("!I")
HEADER = _LENGTH.size
LARGEST = 1 << 30  # bytes of one frame
BIRTH_LIMIT = 128 << 10  # bytes of one datagram on the birth socket
Message = TypeVar("Message")


class Work(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """Calls to be predicted together; `stream` where the only call is to be answered in parts."""

    number: int
    calls: list[Call]
    stream: bool = False


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Nobody waits any more for the stream of this number."""

    number: int


class Flow(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """Whether the client of the stream of this number takes more parts now."""

    number: int
    go: bool


class More(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """So many more texts of this number may be written at once."""

    number: int
    places: int


class Measure(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """A text that waits for its turn: how many tokens has its prompt, or why can it not be answered?"""

    number: int
    call: Call


class Measured(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """The tokens that are read for a call, of its prompt once for each text; or the answer that refuses it."""

    number: int
    tokens: int
    refusal: Answer | None = None


class Left(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """How many texts of this number are not at their end yet, where several are asked for.

    `places` of those that it was given go back with this.
    """

    number: int
    texts: int
    places: int


class Part(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """One part of an answer that is streamed, as JSON; without content it says that the work goes on."""

    number: int
    content: bytes


class Done(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """The answers of a `Work`, one per call, in order; of a stream the error or the end.

    Attributes:
        number: Of the work.
        answers: In the order of the calls.
        seconds: That reading the bodies, predicting and writing the answers took.
        predicting: Of these, the seconds within the engine.
        instances: That were predicted.
        generated: Of the texts that the model has written.
    """

    number: int
    answers: list[Answer]
    seconds: float
    predicting: float = 0.0
    instances: int = 0
    generated: Generated | None = None


class Phase(msgspec.Struct, frozen=True, array_like=True, tag="phase"):
    """What a process that will answer is busy with: a word, and how much of it is done (0 to 1) where known."""

    name: str
    done: float | None = None


class Abilities(msgspec.Struct, frozen=True, array_like=True):
    """What a model can be asked beside predictions.

    Attributes:
        generates: Whether it writes text.
        embeds: Whether it gives a vector for a text.
        context: Tokens that prompt and answer may have together; None where unknown.
        chats: Whether it has a chat template.
        tools: Whether that has a place for tools.
        response_formats: Forms that it can keep its answers to.
        most_logprobs: Alternatives per token that it gives with log probabilities; None for none.
        heeds: Members of requests that not every engine heeds.
    """

    generates: bool = False
    embeds: bool = False
    context: int | None = None
    chats: bool = False
    tools: bool = False
    response_formats: tuple[str, ...] = ()
    most_logprobs: int | None = None
    heeds: tuple[str, ...] = ()


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """A worker is ready; its socket comes with this datagram.

    Attributes:
        pid: Of the worker.
        workers: How many the server means to have.
        slots: How many `Work`s the worker runs at once.
        batches: Whether a `Work` may hold several calls.
        streams: Whether it can answer in parts.
        signature: Of the model, as JSON.
        golden: The body of the golden request, where there is one.
        phases: Seconds that each phase of the start took.
        shared: Whether the model's memory is shared with the other workers.
        abilities: What it can be asked beside predictions.
    """

    pid: int
    workers: int
    slots: int
    batches: bool
    streams: bool
    signature: bytes
    golden: bytes | None
    phases: dict[str, float]
    shared: bool
    abilities: Abilities = Abilities()


_encoder = msgspec.msgpack.Encoder()
birth_decoder: msgspec.msgpack.Decoder[Phase | Hello] = msgspec.msgpack.Decoder(Phase | Hello)
work_decoder: msgspec.msgpack.Decoder[Work | Cancel | Flow | More | Measure] = msgspec.msgpack.Decoder(
    Work | Cancel | Flow | More | Measure
)
done_decoder: msgspec.msgpack.Decoder[Done | Part | Left | Measured] = msgspec.msgpack.Decoder(
    Done | Part | Left | Measured
)


def encode(message: Any) -> bytes:
    """A message without a frame, for datagrams."""
    return _encoder.encode(message)


def frame(message: Any) -> bytes:
    """A message behind its length, for a stream."""
    content = _encoder.encode(message)
    return _LENGTH.pack(len(content)) + content


class Frames:
    """Cuts a stream of bytes into frames' contents. Raises ValueError where a length cannot be right."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._wanted = 0  # bytes of the frame that is incomplete, with its header; 0 where unknown

    def feed(self, data: bytes) -> list[memoryview | bytes]:
        """The contents that are complete now; each must be used before the next call."""
        if not self._held and len(data) >= HEADER and len(data) == HEADER + _LENGTH.unpack_from(data)[0]:
            return [memoryview(data)[HEADER:]]  # as most come: one frame, whole
        self._held += data
        if len(self._held) < self._wanted:
            return []
        complete: list[memoryview | bytes] = []
        start = 0
        while len(self._held) - start >= HEADER:
            (length,) = _LENGTH.unpack_from(self._held, start)
            if length > LARGEST:
                raise ValueError("a frame's length cannot be right")
            end = start + HEADER + length
            if end > len(self._held):
                self._wanted = end - start
                break
            complete.append(bytes(self._held[start + HEADER : end]))
            start = end
        else:
            self._wanted = 0
        if start:
            del self._held[:start]
        return complete
