"""Calls of tools that a model writes into its text, in the two forms that open models are trained on.

    <tool_call>{"name": "tide", "arguments": {"day": 3}}</tool_call>       Hermes' and Qwen's: anywhere, several
    {"name": "tide", "parameters": {"day": 3}}                             Llama 3's: the whole text, several with `;`

Only what is exactly a call of a tool that the request has is taken for one; anything else is text as it stands. Text
goes through at once, but for what may be the beginning of a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from lightship_runtime.generation.request import Arguments, Piece, TokenLogprob, ToolCall
from lightship_runtime.generation.stopping import overlap

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_TAG = "<|python_tag|>"  # may stand before Llama's
_BARE = ('{"name":', '{"type":"function",')  # how Llama's begin, without spaces
_SPACE = re.compile(r"\s+")


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    type: str = "function"
    id: str | None = None


@dataclass(frozen=True)
class Tools:
    """What is to be made of calls that a model writes.

    Attributes:
        names: Of the functions that it may call.
        most: Calls in one text; None for any number.
        forced: Whether the text is nothing but a call, because its engine keeps it to that.
        chosen: Whether whoever asked has named the function: OpenAI's reason for the end is "stop" then.
    """

    names: frozenset[str] = frozenset()
    most: int | None = None
    forced: bool = False
    chosen: bool = False


NO_TOOLS = Tools()


class Reading(Protocol):
    """Takes calls out of a text; `made` counts them, `enough` says that there shall be no more of the text."""

    made: int

    @property
    def enough(self) -> bool: ...

    def feed(self, piece: Piece) -> list[Piece | ToolCall | Arguments]: ...

    def rest(self) -> list[Piece | ToolCall | Arguments]: ...


class Calling:
    """Takes the calls of some tools out of a text."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools.names
        self._most = tools.most
        self._held = ""
        self._logprobs: list[TokenLogprob] = []
        self._begun = False  # whether anything but spaces has been written
        self.made = 0

    @property
    def enough(self) -> bool:
        return self._most is not None and self.made >= self._most

    def feed(self, piece: Piece) -> list[Piece | ToolCall | Arguments]:
        """What may be sent now that this piece has come."""
        if not self._tools:
            return [piece]
        self._held += piece.text
        self._logprobs += piece.logprobs or ()
        return list(self._ready())

    def rest(self) -> list[Piece | ToolCall | Arguments]:
        """What was held back, at the end."""
        if self.enough:
            return []
        if not self._begun and (calls := self._bare(self._held)[: self._most]):
            self.made += len(calls)
            return list(calls)
        if self.made and not self._held.strip():
            return []  # a line's end behind the last call
        return list(self._text(len(self._held)))

    def _ready(self) -> Iterator[Piece | ToolCall]:
        if not self._begun and self._may_be_bare():
            return
        while (start := self._held.find(_OPEN)) >= 0:
            end = self._held.find(_CLOSE, start)
            if end < 0:
                yield from self._text(self._end_of_text(start))
                return
            call = self._call(self._held[start + len(_OPEN) : end])
            if call is None:
                yield from self._text(end + len(_CLOSE))
                continue
            yield from self._text(self._end_of_text(start))
            self._held = self._held[self._held.index(_CLOSE) + len(_CLOSE) :]
            self._logprobs = []
            self._begun = True
            self.made += 1
            yield call
            if self.enough:
                return
        yield from self._text(self._end_of_text(len(self._held) - overlap(self._held, _OPEN)))

    def _end_of_text(self, end: int) -> int:
        """Where the text before a place ends: the spaces there wait, for they go if a call follows."""
        return len(self._held[:end].rstrip())

    def _text(self, end: int) -> Iterator[Piece]:
        text, self._held = self._held[:end], self._held[end:]
        if text:
            self._begun = True
            logprobs, self._logprobs = self._logprobs, []
            yield Piece(text, 0, tuple(logprobs) or None)

    def _may_be_bare(self) -> bool:
        """Whether a text's beginning may be that of a call in Llama's form."""
        text = self._held.lstrip()
        if _TAG.startswith(text[: len(_TAG)]):
            text = text[len(_TAG) :]
        text = _SPACE.sub("", text[:200])
        return any(text.startswith(one) or one.startswith(text) for one in _BARE)

    def _bare(self, text: str) -> list[ToolCall]:
        """The calls of a text that is nothing else."""
        text = text.strip().removeprefix(_TAG).lstrip()
        calls: list[ToolCall] = []
        while True:
            try:
                _, end = json.JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                return []
            call = self._call(text[:end])
            if call is None:
                return []
            calls.append(call)
            text = text[end:].lstrip()
            if not text:
                return calls
            if text[0] != ";":
                return []
            text = text[1:].lstrip()

    def _call(self, text: str) -> ToolCall | None:
        """A call of one of the tools; None for anything else."""
        try:
            written = msgspec.json.decode(text.strip().encode(), type=_Written)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return None
        given = [one for one in (written.arguments, written.parameters) if isinstance(one, msgspec.Raw)]
        if len(given) != 1 or written.name not in self._tools or written.type != "function":
            return None
        arguments = bytes(given[0]).decode().strip()
        return ToolCall(written.name, arguments) if arguments.startswith("{") else None
