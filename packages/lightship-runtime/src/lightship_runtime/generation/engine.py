"""What an engine is that writes text: it tells how many tokens a request has, and writes piece by piece."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from lightship_runtime.engines.engine import (
    BadInstances,
    Engine,
    Fork,
    Instances,
    Options,
    Prediction,
    Signature,
    TensorSpec,
)
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece

_SIGNATURE = Signature(
    kind="text",
    inputs=(TensorSpec("input", "BYTES", (-1,)),),
    outputs=(TensorSpec("predictions", "BYTES", (-1,)),),
    example="Once upon a time",
)
_PARAMETERS = frozenset(("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed"))
DEFAULT_TOKENS = 256  # that are written where nobody says how many, in forms that have no rule of their own


class GenerationEngine(Engine):
    """A loaded model that writes text. `generate` may be called from `slots` threads at once.

    Attributes:
        context: Tokens that prompt and answer may have together.
        chats: Whether it has a chat template, so that it can answer messages.
        tools: Whether that template has a place for tools.
        most_logprobs: The most alternatives per token that it can give with log probabilities; None where none.
        response_formats: Forms of answers that it can keep to, beside "text".
        heeds: Members of a request that not every engine heeds: presence_penalty, frequency_penalty, logit_bias.
    """

    generates: ClassVar[bool] = True
    fork: ClassVar[Fork] = "never"
    context: int = 1 << 20
    chats: bool = False
    tools: bool = False
    most_logprobs: int | None = None
    response_formats: frozenset[str] = frozenset()
    heeds: frozenset[str] = frozenset()

    @abstractmethod
    def prompt_tokens(self, request: GenerationRequest) -> int:
        """How many tokens the prompt has, with the chat template applied. Raises BadInstances."""

    def begin(self, request: GenerationRequest) -> Handover | None:
        """Begin a text in a thread of the engine's own; None for an engine that writes in the caller's thread.

        At most `max_tokens` are written. Raises BadInstances for what the model cannot be asked.
        """
        return None

    def generate(self, request: GenerationRequest) -> Iterator[Piece | Finish]:
        """Pieces as they come, and at last a Finish. Closing the iterator ends the work within one step.

        Raises BadInstances as `begin` does. An engine has one of the two of its own.
        """
        handover = self.begin(request)
        if handover is None:
            raise NotImplementedError
        yield from handover.read()

    @property
    def signature(self) -> Signature:
        return _SIGNATURE

    @property
    def batches(self) -> bool:
        return False

    @property
    def streams(self) -> bool:
        return True

    def predict(self, instances: Instances, options: Options) -> Prediction:
        """What follows each text: for the forms in which any model can be asked."""
        return Prediction(["".join(self.stream(one, options)) for one in instances])

    def stream(self, instance: Any, options: Options) -> Iterator[str]:
        """What follows one text, piece by piece. `parameters` are those of a GenerationRequest."""
        if not isinstance(instance, str):
            raise BadInstances("Every instance must be a text.")
        unknown = options.parameters.keys() - _PARAMETERS
        if unknown:
            raise BadInstances(f"This model knows the parameters {', '.join(sorted(_PARAMETERS))}.")
        pieces = self.generate(_request(instance, options))
        try:
            for piece in pieces:
                if isinstance(piece, Piece) and piece.text:
                    yield piece.text
        finally:
            if hasattr(pieces, "close"):
                pieces.close()


def _request(prompt: str, options: Options) -> GenerationRequest:
    import msgspec

    given = {"max_tokens": DEFAULT_TOKENS, **options.parameters, "prompt": prompt}
    try:
        return msgspec.convert(given, GenerationRequest)
    except msgspec.ValidationError as error:
        raise BadInstances("A parameter is of the wrong type.") from error
