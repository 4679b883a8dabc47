"""A tiny real language model with random weights: a folder as transformers saves it, or as GenAI has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONTEXT = 512
TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_TEXT = "The quick brown fox jumps over the lazy dog. Once upon a time there was a ship of light on the sea. "


def language_model(path: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|start|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [_TEXT] * 8, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|start|>", eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE
    )
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.5,  # else all of its texts are one word again and again
    )
    LlamaForCausalLM(config).eval().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def converted(folder: Path, path: Path, precision: str = "fp32") -> Path:
    """The same model for ONNX Runtime GenAI, by the library's own builder, without a network."""
    folders = ["-i", folder, "-o", path, "-c", path.with_name("builder-cache")]
    subprocess.run(
        [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", precision, "-e", "cpu", *folders],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return path
