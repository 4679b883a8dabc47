"""Members that OpenAI's two forms for text share, and what becomes of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.forms import LONGEST_STOP, Stops, stops
from lightship_runtime.generation.request import Penalty, Seed, Share, Temperature, Tokens, TopK
from lightship_runtime.payload.call import RequestError
from lightship_runtime.payload.openai_bodies import neutral, unsupported

MOST_TEXTS = 8  # in one answer: each takes the work and the memory of a request of its own
_MOST_BIASES = 1024  # tokens, as OpenAI's
_LARGEST_TOKEN = 1 << 31
_PENALTY = Annotated[float, msgspec.Meta(ge=-2, le=2)]
_BIAS = Annotated[float, msgspec.Meta(ge=-100, le=100)]


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How an answer comes in parts."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # of no use where no third party reads along: left alone


class Sampling(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Members of both forms. The last ones change nothing of the answer."""

    model: str | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: TopK | None = None  # not OpenAI's; as other servers of models call it
    repetition_penalty: Penalty | None = None  # likewise
    max_tokens: Tokens | None = None
    seed: Seed | None = None
    stop: str | Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_TEXTS)] | None = None
    presence_penalty: _PENALTY | None = None
    frequency_penalty: _PENALTY | None = None
    logit_bias: Annotated[dict[str, _BIAS], msgspec.Meta(max_length=_MOST_BIASES)] | None = None
    user: str | None = None

    def check(self, engine: GenerationEngine) -> None:
        """Raises RequestError for what the engine does not do."""
        if isinstance(self.stop, str) and len(self.stop) > LONGEST_STOP:
            raise RequestError(
                f"Invalid 'stop': it is longer than {LONGEST_STOP} characters.", param="stop", code="invalid_value"
            )
        for name in ("presence_penalty", "frequency_penalty"):
            if name not in engine.heeds and not neutral(getattr(self, name), 0):
                raise unsupported(name, "This model's engine has none. Use repetition_penalty.")
        if "logit_bias" not in engine.heeds and not neutral(self.logit_bias):
            raise unsupported("logit_bias", "This model's engine has none.")
        if self.stream_options is not None and not self.stream:
            raise RequestError(
                "Invalid 'stream_options': they are only for stream = true.",
                param="stream_options",
                code="invalid_value",
            )

    def sampling(self) -> dict[str, Any]:
        """The members of a GenerationRequest that both forms have. Raises RequestError."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "repetition_penalty": self.repetition_penalty,
            "presence_penalty": self.presence_penalty or None,
            "frequency_penalty": self.frequency_penalty or None,
            "logit_bias": _biases(self.logit_bias),
            "stop": stops(self.stop),
            "seed": self.seed,
        }

    @property
    def usage(self) -> bool:
        """Whether the parts shall end with the counts of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


def _biases(given: dict[str, float] | None) -> dict[int, float] | None:
    if not given:
        return None
    if not all(token.isascii() and token.isdigit() and int(token) < _LARGEST_TOKEN for token in given):
        raise RequestError(
            "Invalid 'logit_bias': its names are numbers of tokens.", param="logit_bias", code="invalid_value"
        )
    return {int(token): bias for token, bias in given.items()}


Ignored = Any  # the type of members that are taken and left alone
ServiceTier = Literal["auto", "default", "flex", "scale", "priority"]
