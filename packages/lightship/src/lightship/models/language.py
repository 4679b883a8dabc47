"""What a language model's own description says of its size: enough to know how much memory a text needs.

Read from config.json of Hugging Face, from the metadata of a GGUF file or from genai_config.json; the numbers are the
author's word, so that each has bounds and what does not fit counts as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_MOST = 1 << 24  # of any count; contexts reach to ten million tokens, vocabularies to some hundred thousand
_MOST_LAYERS = 4096
# The endings of architectures that write text from left to right, and need nothing but text.
_WRITES = ("ForCausalLM", "LMHeadModel")


@dataclass(frozen=True)
class Language:
    """A model that writes text.

    Attributes:
        architecture: Its name: LlamaForCausalLM, or `llama` where the file calls it so.
        layers: Blocks with attention.
        kv_heads: Heads of which keys and values are kept, for each layer.
        head_size: Numbers in one head's key, and in its value where that is not told apart.
        value_size: Numbers in one head's value.
        context: Tokens that its positions reach; None where it does not say.
        vocabulary: Tokens that it knows; 0 where it does not say.
        hidden: Numbers that a token is between two layers.
        parameters: How many, as its files have them.
        tied: Whether the first table of the vocabulary is the last one too.
        quantisation: How its files are quantised already; None for plain numbers.
    """

    architecture: str
    layers: int
    kv_heads: int
    head_size: int
    value_size: int
    context: int | None
    vocabulary: int
    hidden: int
    parameters: int
    tied: bool = False
    quantisation: str | None = None

    def cache_numbers(self) -> int:
        """Numbers that are kept of one token while a text is written: a key and a value in every layer."""
        return self.layers * self.kv_heads * (self.head_size + self.value_size)


def writes_text(architectures: list[str] | None) -> str | None:
    """The first architecture of those that a folder names, where that writes text."""
    first = architectures[0] if architectures else ""
    return first if first.endswith(_WRITES) else None


def described(
    facts: Mapping[str, object], architecture: str, parameters: int, quantisation: str | None
) -> Language | None:
    """The model of a config.json; None where its sizes are missing or none."""
    nested = facts.get("text_config")
    told = {**facts, **nested} if isinstance(nested, dict) else facts

    def number(*names: str, most: int = _MOST) -> int | None:
        return next((found for name in names if (found := count(told.get(name), most)) is not None), None)

    layers = number("num_hidden_layers", "n_layer", "n_layers", most=_MOST_LAYERS)
    heads = number("num_attention_heads", "n_head", "n_heads")
    hidden = number("hidden_size", "n_embd", "d_model")
    if layers is None or heads is None or hidden is None:
        return None
    head = number("head_dim") or hidden // heads
    return Language(
        architecture=architecture,
        layers=layers,
        kv_heads=number("num_key_value_heads", "multi_query_group_num", "num_kv_heads") or heads,
        head_size=head,
        value_size=number("v_head_dim") or head,
        context=number("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
        vocabulary=number("vocab_size") or 0,
        hidden=hidden,
        parameters=parameters,
        tied=told.get("tie_word_embeddings") is True,
        quantisation=quantisation,
    )


def count(value: object, most: int = _MOST) -> int | None:
    """A count as it stands in a description; None where it is none, or beyond all reason."""
    return value if type(value) is int and 0 < value <= most else None
