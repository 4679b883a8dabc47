"""Texts before which an answer ends: nothing of them is sent, though they may come in several pieces."""

from __future__ import annotations

from lightship_runtime.generation.request import Piece


class Stopping:
    """Lets pieces through that cannot be the beginning of a stop text.

    `stopped` says that one was found: what comes after it is nobody's.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held: list[Piece] = []
        self.stopped = False

    def feed(self, piece: Piece) -> list[Piece]:
        """What may be sent now that this piece has come."""
        if not self._stop:
            return [piece]
        self._held.append(piece)
        text = "".join(one.text for one in self._held)
        found = min((place for stop in self._stop if (place := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            return self._cut(found)
        return self._safe(len(text) - max(overlap(text, stop) for stop in self._stop))

    def rest(self) -> list[Piece]:
        """What was held back, at the end."""
        held, self._held = self._held, []
        return held

    def _safe(self, end: int) -> list[Piece]:
        """The pieces that lie wholly before a place in the text that is held."""
        length = 0
        for count, piece in enumerate(self._held):
            length += len(piece.text)
            if length > end:
                safe, self._held = self._held[:count], self._held[count:]
                return safe
        return self.rest()

    def _cut(self, end: int) -> list[Piece]:
        """The pieces before a place, the last one shortened."""
        cut: list[Piece] = []
        for piece in self.rest():
            if end <= 0:
                break
            cut.append(piece if len(piece.text) <= end else Piece(piece.text[:end], piece.tokens, piece.logprobs))
            end -= len(piece.text)
        return cut


def overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text are the beginning of another."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
