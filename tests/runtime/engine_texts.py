"""Asking an engine for texts, one or several at once: what tests of all engines that write share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lightship_runtime.generation.request import Finish, GenerationRequest, Piece

Result = TypeVar("Result")
Text = tuple[str, Finish, list[Piece]]


def asked(prompt: str, most: int = 32, **more: Any) -> GenerationRequest:
    """Greedy, unless `more` says otherwise."""
    return GenerationRequest(prompt=prompt, max_tokens=most, **{"temperature": 0.0, **more})


def written(engine: Any, request: GenerationRequest) -> Text:
    """What an engine writes, how it ends, and in which pieces."""
    *pieces, finish = engine.generate(request)
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert isinstance(finish, Finish)
    assert sum(piece.tokens for piece in pieces) == finish.completion_tokens
    return "".join(piece.text for piece in pieces), finish, pieces


def at_once(count: int, ask: Callable[[int], Result]) -> list[Result]:
    """What `ask` gives for each number, from as many threads that begin together."""
    answers: dict[int, Result] = {}
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        answers[number] = ask(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[number] for number in range(count)]


def in_threads(engine: Any, requests: Sequence[GenerationRequest]) -> list[Text]:
    """The texts of several requests that are made at once."""
    return at_once(len(requests), lambda number: written(engine, requests[number]))
