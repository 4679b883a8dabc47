"""A worker and a model that writes in a thread of its own: parts, cancelled and stalled ones, over a real socket."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lightship_runtime.engines.engine import Engine, ModelSource
from lightship_runtime.frames import Cancel, Done, Flow, Frames, Part, Work, done_decoder, frame
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece
from lightship_runtime.host.answering import Answering
from lightship_runtime.host.worker import Worker
from lightship_runtime.log import Log
from lightship_runtime.payload.call import Call

WAIT = 20.0  # seconds after which a test fails


class Dictated(GenerationEngine):
    """Writes what a test tells it to."""

    def __init__(self) -> None:
        self.begun: dict[str, Handover] = {}
        self.changed = threading.Condition()

    @classmethod
    def load(cls, source: ModelSource) -> Engine:
        raise NotImplementedError

    def prompt_tokens(self, request: GenerationRequest) -> int:
        return 1

    def begin(self, request: GenerationRequest) -> Handover:
        handover = Handover(clock=iter(range(1_000_000)).__next__)  # nothing is gathered
        with self.changed:
            assert request.prompt is not None
            self.begun[request.prompt] = handover
            self.changed.notify_all()
        return handover

    def text(self, prompt: str) -> Handover:
        """The handover of a text, once it has begun."""
        with self.changed:
            assert self.changed.wait_for(lambda: prompt in self.begun, WAIT)
            return self.begun[prompt]


class Talk:
    """The listening process's end of a worker's socket."""

    def __init__(self, engine: GenerationEngine) -> None:
        mine, its = socket.socketpair()
        mine.settimeout(WAIT)
        self._link, self._frames, self._held = mine, Frames(), []
        worker = Worker(its, Answering(engine, "speller", "python", Log(io.StringIO())), 4, streams=True)
        self._thread = threading.Thread(target=worker.run, daemon=True)
        self._thread.start()

    def send(self, message: Work | Cancel | Flow) -> None:
        self._link.sendall(frame(message))

    def ask(self, number: int, prompt: str, *, stream: bool = True) -> None:
        body = json.dumps({"prompt": prompt, "stream": stream, "max_tokens": 100}).encode()
        self.send(Work(number, [Call("completions", body)], stream=True))

    def next(self) -> Part | Done:
        while not self._held:
            self._held += [done_decoder.decode(content) for content in self._frames.feed(self._link.recv(1 << 16))]
        message = self._held.pop(0)
        assert isinstance(message, Part | Done)
        return message

    def silent(self) -> bool:
        """Whether nothing comes for a while."""
        self._link.settimeout(0.3)
        try:
            return not self._held and not self._link.recv(1)
        except TimeoutError:
            return True
        finally:
            self._link.settimeout(WAIT)

    def close(self) -> None:
        self._link.close()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()


@pytest.fixture
def engine() -> Dictated:
    return Dictated()


@pytest.fixture
def talk(engine: Dictated) -> Iterator[Talk]:
    talk = Talk(engine)
    yield talk
    talk.close()


def text_of(part: Part | Done) -> Any:
    assert isinstance(part, Part)
    return json.loads(part.content)["choices"][0]["text"]


def test_several_texts_come_as_they_are_written(talk: Talk, engine: Dictated) -> None:
    for number in (1, 2):
        talk.ask(number, f"text {number}")
    for letter in "abc":
        for number in (2, 1):
            engine.text(f"text {number}").put(Piece(f"{letter}{number}"))
            part = talk.next()
            assert (part.number, text_of(part)) == (number, f"{letter}{number}")
    engine.text("text 1").put(Finish("length", 1, 3))
    last, done = talk.next(), talk.next()
    assert isinstance(last, Part)
    assert json.loads(last.content)["choices"][0]["finish_reason"] == "length"
    assert isinstance(done, Done)
    assert (done.number, done.answers[0].status) == (1, 200)
    assert done.generated is not None
    assert (done.generated.prompt_tokens, done.generated.completion_tokens) == (1, 3)


def test_a_whole_answer_comes_at_the_end(talk: Talk, engine: Dictated) -> None:
    talk.ask(1, "whole", stream=False)
    for letter in "abc":
        engine.text("whole").put(Piece(letter))
    engine.text("whole").put(Finish("stop", 1, 3))
    done = talk.next()
    assert isinstance(done, Done)
    assert json.loads(done.answers[0].body)["choices"][0]["text"] == "abc"


def test_whoever_leaves_ends_the_text_before_its_next_token(talk: Talk, engine: Dictated) -> None:
    talk.ask(1, "left")
    handover = engine.text("left")
    handover.put(Piece("a"))
    assert text_of(talk.next()) == "a"
    assert not handover.cancelled
    talk.send(Cancel(1))
    done = talk.next()
    assert isinstance(done, Done)
    assert handover.cancelled
    assert done.generated is not None
    assert done.generated.completion_tokens == 1


def test_what_a_client_does_not_take_waits_for_it(talk: Talk, engine: Dictated) -> None:
    talk.ask(1, "slow")
    handover = engine.text("slow")
    handover.put(Piece("a"))
    assert text_of(talk.next()) == "a"
    talk.send(Flow(1, go=False))
    talk.ask(2, "quick")
    engine.text("quick").put(Piece("q"))
    assert text_of(talk.next()) == "q"  # so that the worker has read the message before it
    for letter in "bcd":
        handover.put(Piece(letter))
    assert talk.silent()
    talk.send(Flow(1, go=True))
    assert [text_of(talk.next()) for _ in "bcd"] == ["b", "c", "d"]
    handover.put(Piece("e"))
    assert text_of(talk.next()) == "e"


def test_who_leaves_while_it_takes_nothing_ends_the_text(talk: Talk, engine: Dictated) -> None:
    talk.ask(1, "stalled")
    handover = engine.text("stalled")
    handover.put(Piece("a"))
    assert text_of(talk.next()) == "a"
    talk.send(Flow(1, go=False))
    talk.send(Cancel(1))
    assert isinstance(talk.next(), Done)
    assert handover.cancelled


def test_a_text_that_fails_ends_by_itself(talk: Talk, engine: Dictated) -> None:
    for number in (1, 2):
        talk.ask(number, f"text {number}")
    engine.text("text 1").fail(RuntimeError("a secret"))
    done = talk.next()
    assert isinstance(done, Done)
    assert done.answers[0].status == 500
    assert b"secret" not in done.answers[0].body
    engine.text("text 2").put(Piece("fine"))
    assert text_of(talk.next()) == "fine"
