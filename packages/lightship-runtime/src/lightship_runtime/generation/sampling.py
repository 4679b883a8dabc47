"""Members that OpenAI's two forms for text share, and what becomes of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from lightship_runtime.generation.forms import LONGEST_STOP, Stops
from lightship_runtime.generation.request import Penalty, Seed, Share, Temperature, Tokens, TopK
from lightship_runtime.payload.call import RequestError
from lightship_runtime.payload.openai_bodies import neutral, unsupported

_NUMBER = Annotated[float, msgspec.Meta(ge=-2, le=2)]


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
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    presence_penalty: _NUMBER | None = None
    frequency_penalty: _NUMBER | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    def check(self) -> None:
        """Raises RequestError for what no engine does."""
        if isinstance(self.stop, str) and len(self.stop) > LONGEST_STOP:
            raise RequestError(
                f"Invalid 'stop': it is longer than {LONGEST_STOP} characters.", param="stop", code="invalid_value"
            )
        if not neutral(self.n, 1):
            raise unsupported("n", "One answer is given for each request.")
        for name in ("presence_penalty", "frequency_penalty"):
            if not neutral(getattr(self, name), 0):
                raise unsupported(name, "Use repetition_penalty.")
        if not neutral(self.logit_bias):
            raise unsupported("logit_bias", "")
        if self.stream_options is not None and not self.stream:
            raise RequestError(
                "Invalid 'stream_options': they are only for stream = true.",
                param="stream_options",
                code="invalid_value",
            )

    @property
    def usage(self) -> bool:
        """Whether the parts shall end with the counts of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


Ignored = Any  # the type of members that are taken and left alone
ServiceTier = Literal["auto", "default", "flex", "scale", "priority"]
