"""Tokens to text as they come: a character can be several tokens, and a token's text can depend on the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"  # what a tokenizer writes for bytes that are no character, or not yet
_PATIENCE = 8  # tokens; a character has at most four bytes, so that longer ones are broken for good


class TextStream:
    """The text of a growing sequence of tokens, piece by piece.

    Only the last tokens are decoded again, so that a long text takes no longer per token than a short one.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._shown = 0  # of `_tokens`, those before it have been given out; one word of them stays for its spaces

    def feed(self, token: int) -> str:
        """What may be said now; empty while a character is incomplete."""
        self._tokens.append(token)
        before = self._decode(self._tokens[: self._shown])
        text = self._decode(self._tokens)
        if text.endswith(_BROKEN) and len(self._tokens) - self._shown < _PATIENCE:
            return ""
        self._tokens = self._tokens[self._shown :]
        self._shown = len(self._tokens)
        return text[len(before) :]

    def rest(self) -> str:
        """What was held back, at the end."""
        return self._decode(self._tokens)[len(self._decode(self._tokens[: self._shown])) :]
