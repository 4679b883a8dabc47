"""Which models of transformers can write several texts in one step, each with a length of its own.

A step computes rows of different lengths with a mask and positions that are made here, so that a model must take both
as they are, and must keep nothing of a text but the keys and values of full attention. No PyTorch is imported: the
builder asks for the number of texts, too.
"""

from __future__ import annotations

from typing import Any

SLOTS = 8  # texts at once
_LEAST_VERSION = 5  # of transformers: masks of four dimensions and caches of any class are taken as they are
# Compared with generate(), token by token, in tests/runtime/test_llm_together.py.
_FAMILIES = frozenset(
    """
    CohereForCausalLM GemmaForCausalLM GlmForCausalLM GPT2LMHeadModel GPTNeoXForCausalLM GraniteForCausalLM
    LlamaForCausalLM MistralForCausalLM MixtralForCausalLM OlmoForCausalLM Olmo2ForCausalLM PhiForCausalLM
    Phi3ForCausalLM Qwen2ForCausalLM Qwen2MoeForCausalLM Qwen3ForCausalLM Qwen3MoeForCausalLM SmolLM3ForCausalLM
    StableLmForCausalLM Starcoder2ForCausalLM
    """.split()
)
_ATTENTION = ("sdpa", "eager")  # those that add a mask to their scores
# Turned by the longest text of a step, so that texts would change each other.
_SHARED_TURNS = ("dynamic", "longrope")
# What a model's own configuration may say of writing: it is heeded, or it is of no matter here.
_HEEDED = frozenset(
    """
    do_sample temperature top_k top_p min_p repetition_penalty eos_token_id bos_token_id pad_token_id
    decoder_start_token_id max_length max_new_tokens transformers_version _from_model_config use_cache
    cache_implementation output_attentions output_hidden_states output_scores output_logits return_dict_in_generate
    """.split()
)
# What else it may say, as long as it says that nothing is to happen.
_NEUTRAL = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "early_stopping": False,
    "length_penalty": 1.0,
    "typical_p": 1.0,
    "diversity_penalty": 0.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "renormalize_logits": False,
    "remove_invalid_values": False,
}


def texts_at_once(architecture: str | None, bits: str | None = None) -> int:
    """How many texts a model of an architecture writes at once, at most; `bits` are those it is loaded with.

    With 8 bits it is one: LLM.int8 looks at all rows of a step for the columns that it computes with more bits.
    """
    return SLOTS if architecture in _FAMILIES and bits != "8bit" else 1


def writes_together(model: Any) -> bool:
    """Whether a loaded model's texts can share steps."""
    import transformers
    from transformers.cache_utils import DynamicCache, DynamicLayer

    config = model.config
    turns = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return (
        int(transformers.__version__.partition(".")[0]) >= _LEAST_VERSION
        and type(model).__name__ in _FAMILIES
        and not getattr(model, "is_loaded_in_8bit", False)
        and type(model).__module__.startswith("transformers.models.")
        and config._attn_implementation in _ATTENTION
        and turns.get("rope_type", "default") not in _SHARED_TURNS
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
        and all(
            name in _HEEDED or value is None or _NEUTRAL.get(name, ...) == value
            for name, value in model.generation_config.to_diff_dict().items()
        )
    )
