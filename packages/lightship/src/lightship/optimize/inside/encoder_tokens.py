"""The tokenizer of a model of texts as one file, with what the libraries do to a text before and after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from lightship.optimize.inside.refusal import Refusal
from lightship_runtime.engines.text_model import TextModel

_UNLIMITED = 1 << 20  # tokens: what tokenizers that know no limit say is far beyond
_HINT = "Leave [optimize] onnx out: the model is served as it is."
# Texts that show what becomes of a text before it is tokenised.
_PROBES = ("A plain text.", "  spaces on both sides \n", "UPPER and lower")


@dataclass(frozen=True)
class Tokens:
    """How a model's library makes tokens of texts.

    Attributes:
        tokenizer: The object of transformers.
        ids: The tokens of each text as the library gives them to the model, cut off at its length.
        names: The inputs that the library hands the model.
        longest: How many tokens the model reads.
    """

    tokenizer: Any
    ids: Callable[[Sequence[str]], list[list[int]]]
    names: tuple[str, ...]
    longest: int


def tokens_of(tokenizer: Any, prepare: Callable[[list[str]], Any], config: Any) -> Tokens:
    """What `prepare`, the library's own preparation of texts, does.

    Raises: `Refusal` where the tokenizer is not one of the library `tokenizers`.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise Refusal(f"{type(tokenizer).__name__} is no tokenizer of the library tokenizers", _HINT)
    limit = getattr(tokenizer, "model_max_length", None)
    if not isinstance(limit, int) or not 0 < limit < _UNLIMITED:
        limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or not 0 < limit < _UNLIMITED:
        raise Refusal(
            "neither the tokenizer nor config.json says how long a text may be",
            "Write model_max_length into tokenizer_config.json.",
        )

    def ids(texts: Sequence[str]) -> list[list[int]]:
        found = []
        for text in texts:  # one by one, so that nothing is filled up
            row = prepare([text])["input_ids"][0]
            found.append(row.tolist() if hasattr(row, "tolist") else list(row))
        return found

    known = ("input_ids", "attention_mask", "token_type_ids")
    given = prepare([_PROBES[0]])
    names = tuple(name for name in known if name in given)
    if "attention_mask" not in names:
        raise Refusal("the tokenizer tells the model no attention_mask", _HINT)
    return Tokens(tokenizer, ids, names, limit)


def tokenizer_file(tokens: Tokens) -> str:
    """tokenizer.json that cuts texts off at the model's length, and fills none up."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(tokens.tokenizer.backend_tokenizer.to_str())
    made.no_padding()
    made.enable_truncation(tokens.longest, direction=tokens.tokenizer.truncation_side)
    text: str = made.to_str()
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))


def text_model(task: Any, tokens: Tokens, file: str, **more: Any) -> TextModel:
    """What the runtime has to do around the graph. Raises `Refusal` where texts are prepared in some other way."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(file)
    expected = tokens.ids(_PROBES)
    for strip, lower in product((False, True), repeat=2):
        changed = [text.strip() if strip else text for text in _PROBES]
        changed = [text.lower() if lower else text for text in changed]
        if [one.ids for one in made.encode_batch(changed)] == expected:
            return TextModel(
                task,
                pad=tokens.tokenizer.pad_token_id or 0,
                pad_type=getattr(tokens.tokenizer, "pad_token_type_id", 0) or 0,
                pad_left=tokens.tokenizer.padding_side == "left",
                strip=strip,
                lower=lower,
                **more,
            )
    raise Refusal("its texts are prepared by more than the tokenizer", _HINT)
