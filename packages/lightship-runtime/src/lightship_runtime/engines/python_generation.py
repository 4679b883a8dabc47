"""A user's own Python file that writes text: `generate()` gives piece after piece.

    def load():                                    # optional
        return Model("weights.bin")

    def generate(model, prompt, max_tokens, temperature=None):   # or generate(prompt, ...), where there is no load()
        for token in model.sample(prompt, temperature):
            yield token

A piece is a text and counts as one token. Of the parameters it gets those that it names, or all with `**options`:
max_tokens, temperature, top_p, top_k, repetition_penalty, seed, stop, and presence_penalty, frequency_penalty and
logit_bias, which are refused where it does not get them. One that a request does not say is left out, or None where
the function has no default.
Never more than max_tokens pieces are taken. It may have

    context = 4096                         tokens that prompt and answer may have together
    slots = 8                              texts that it writes at once, each in a thread of its own
    def apply_chat_template(messages)      the prompt for a conversation; without it there is no chat; with a second
                                           parameter `tools` it is given those as well
    def count_tokens(text)                 without it a token of a prompt is a word

These two are called for prompts that wait, too, while `generate` is running in another thread.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from lightship_runtime.engines.engine import BadInstances, ModelSource
from lightship_runtime.errors import StartError
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.request import Finish, FinishReason, GenerationRequest, Piece

_NOT_EVERYWHERE = ("presence_penalty", "frequency_penalty", "logit_bias")
_OPTIONS = (*("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", *_NOT_EVERYWHERE, "seed", "stop"),)


class PythonGenerationEngine(GenerationEngine):
    """Functions of a user's file."""

    def __init__(self, module: ModuleType, model: tuple[Any, ...]) -> None:
        self._function: Callable[..., Any] = module.generate
        self._model = model
        self._parameters = inspect.signature(self._function).parameters
        self._every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in self._parameters.values())
        self.heeds = frozenset(name for name in _NOT_EVERYWHERE if self._every or name in self._parameters)
        self._template: Callable[..., str] | None = getattr(module, "apply_chat_template", None)
        self._count: Callable[[str], int] | None = getattr(module, "count_tokens", None)
        self._slots: int = getattr(module, "slots", 1)
        self.context = getattr(module, "context", type(self).context)
        self.chats = self._template is not None
        self.tools = self._template is not None and "tools" in inspect.signature(self._template).parameters

    @classmethod
    def load(cls, source: ModelSource) -> GenerationEngine:
        from lightship_runtime.engines.code import run_file

        return cls.of(run_file(source.path, source.model.path), source.model.path)

    @classmethod
    def of(cls, module: ModuleType, shown: str) -> PythonGenerationEngine:
        """The engine of a file that has been run. Raises StartError."""
        if not inspect.isgeneratorfunction(getattr(module, "generate", None)):
            raise StartError(
                f"{shown}: generate() must be a generator.",
                hint="Write `def generate(prompt):` and yield each piece.",
            )
        for name in ("context", "slots"):
            value = getattr(module, name, 1)
            if not isinstance(value, int) or value < 1:
                raise StartError(f"{shown}: {name} is a number, at least 1.")
        for name in ("apply_chat_template", "count_tokens"):
            if not callable(getattr(module, name, len)):
                raise StartError(f"{shown}: {name} must be a function.")
        load = getattr(module, "load", None)
        return cls(module, (load(),) if callable(load) else ())

    @property
    def slots(self) -> int:
        return self._slots

    def prompt_tokens(self, request: GenerationRequest) -> int:
        text = self._prompt(request)
        return self._count(text) if self._count is not None else len(text.split())

    def generate(self, request: GenerationRequest) -> Iterator[Piece | Finish]:
        prompt = self._prompt(request)
        tokens = self.prompt_tokens(request)
        most = request.max_tokens
        reason: FinishReason = "stop"
        written = 0
        pieces = self._function(*self._model, prompt, **self._options(request))
        try:
            for piece in pieces:
                if not isinstance(piece, str):
                    raise TypeError(f"generate() gave a {type(piece).__name__}, not a text")
                yield Piece(piece)
                written += 1
                if most is not None and written >= most:
                    reason = "length"
                    break
        except ValueError as error:
            raise BadInstances("The model refused this request.") from error
        finally:
            pieces.close()
        yield Finish(reason, tokens, written)

    def _prompt(self, request: GenerationRequest) -> str:
        if request.prompt is not None:
            return request.prompt
        assert self._template is not None
        messages = [dict(message) for message in request.messages or ()]
        more = {"tools": list(request.tools) or None} if self.tools else {}
        try:
            return self._template(messages, **more)
        except ValueError as error:
            raise BadInstances("The chat template refuses these messages.") from error

    def _options(self, request: GenerationRequest) -> dict[str, Any]:
        named = self._parameters
        options: dict[str, Any] = {}
        for name in _OPTIONS:
            value = getattr(request, name)
            needed = name in named and named[name].default is inspect.Parameter.empty
            if needed or (value is not None and (self._every or name in named)):
                options[name] = value
        return options
