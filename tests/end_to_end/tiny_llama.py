"""A Hugging Face folder of a tiny Llama with random weights and a tokenizer of single bytes, made without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, CONTEXT = 64, 128, 2, 4, 2, 256
SPECIAL = ("<|start|>", "<|end|>")


def tiny_llama(path: Path) -> Path:
    path.mkdir()
    vocabulary = [*SPECIAL, *_alphabet()]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(vocabulary),
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    }
    _write(path / "config.json", config)
    tokens = {token: number for number, token in enumerate(vocabulary)}
    added = [{"id": number, "content": token, **_SPECIAL_TOKEN} for number, token in enumerate(SPECIAL)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    _write(
        path / "tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": added,
            "pre_tokenizer": byte_level,
            "decoder": byte_level,
            "model": {"type": "BPE", "vocab": tokens, "merges": []},
        },
    )
    _write(
        path / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[1]},
    )
    (path / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    save_file(_weights(len(vocabulary)), path / "model.safetensors", {"format": "pt"})
    return path


_SPECIAL_TOKEN = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}


def _weights(vocabulary: int) -> dict[str, Any]:
    numbers = np.random.default_rng(1)

    def matrix(rows: int, columns: int) -> Any:
        return numbers.normal(0, 0.3, (rows, columns)).astype(np.float32)

    key = HIDDEN // HEADS * KV_HEADS
    ones = np.ones(HIDDEN, np.float32)
    weights = {"model.embed_tokens.weight": matrix(vocabulary, HIDDEN), "lm_head.weight": matrix(vocabulary, HIDDEN)}
    # The two special tokens are the least likely, so that no text ends early.
    weights["lm_head.weight"][:2] = 0
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        weights |= {
            f"{name}self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{name}self_attn.k_proj.weight": matrix(key, HIDDEN),
            f"{name}self_attn.v_proj.weight": matrix(key, HIDDEN),
            f"{name}self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{name}mlp.gate_proj.weight": matrix(INNER, HIDDEN),
            f"{name}mlp.up_proj.weight": matrix(INNER, HIDDEN),
            f"{name}mlp.down_proj.weight": matrix(HIDDEN, INNER),
            f"{name}input_layernorm.weight": ones.copy(),
            f"{name}post_attention_layernorm.weight": ones.copy(),
        }
    weights["model.norm.weight"] = ones.copy()
    return weights


def _alphabet() -> list[str]:
    """GPT-2's letters for the 256 bytes: those that can be printed are themselves, the others come after them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), "utf-8")
