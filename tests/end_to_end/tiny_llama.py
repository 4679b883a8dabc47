"""A Hugging Face folder of a tiny Llama with random weights and a tokenizer of single bytes, made without PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SPECIAL = ("<|start|>", "<|end|>")


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama: `hidden` of a token, `inner` of a layer; `heads` of attention divide `hidden`."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    context: int


TINY = Shape(hidden=64, inner=128, layers=2, heads=4, kv_heads=2, context=256)
# 94 million parameters: in single precision they take most of a server's memory.
MIDDLE = Shape(hidden=1024, inner=2816, layers=8, heads=16, kv_heads=8, context=1024)


def tiny_llama(path: Path, shape: Shape = TINY) -> Path:
    path.mkdir()
    vocabulary = [*SPECIAL, *_alphabet()]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(vocabulary),
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
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
    save_file(_weights(len(vocabulary), shape), path / "model.safetensors", {"format": "pt"})
    return path


_SPECIAL_TOKEN = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}


def _weights(vocabulary: int, shape: Shape) -> dict[str, Any]:
    numbers = np.random.default_rng(1)
    hidden, inner = shape.hidden, shape.inner

    def matrix(rows: int, columns: int) -> Any:
        return numbers.normal(0, 0.3, (rows, columns)).astype(np.float32)

    key = hidden // shape.heads * shape.kv_heads
    ones = np.ones(hidden, np.float32)
    weights = {"model.embed_tokens.weight": matrix(vocabulary, hidden), "lm_head.weight": matrix(vocabulary, hidden)}
    # The two special tokens are the least likely, so that no text ends early.
    weights["lm_head.weight"][:2] = 0
    for layer in range(shape.layers):
        name = f"model.layers.{layer}."
        weights |= {
            f"{name}self_attn.q_proj.weight": matrix(hidden, hidden),
            f"{name}self_attn.k_proj.weight": matrix(key, hidden),
            f"{name}self_attn.v_proj.weight": matrix(key, hidden),
            f"{name}self_attn.o_proj.weight": matrix(hidden, hidden),
            f"{name}mlp.gate_proj.weight": matrix(inner, hidden),
            f"{name}mlp.up_proj.weight": matrix(inner, hidden),
            f"{name}mlp.down_proj.weight": matrix(hidden, inner),
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
