"""A tiny real language model with random weights: a folder as transformers saves it, or as GenAI has it."""

from __future__ import annotations

import json
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


def language_model(path: Path, heads: int = 4, hidden: int = 64) -> Path:
    """`heads` of `hidden` numbers together: vLLM's attention takes none that are smaller than 32."""
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
        hidden_size=hidden,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.5,  # else all of its texts are one word again and again
    )
    LlamaForCausalLM(config).eval().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def converted(folder: Path, path: Path, precision: str = "fp32", *options: str) -> Path:
    """The same model for ONNX Runtime GenAI, by the library's own builder, without a network."""
    folders = ["-i", folder, "-o", path, "-c", path.with_name("builder-cache")]
    folders += ["--extra_options", *options] if options else []
    subprocess.run(
        [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", precision, "-e", "cpu", *folders],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return path


def gguf(folder: Path, path: Path, template: str | None = TEMPLATE, parts_of: int = 0) -> Path:
    """The same model for llama.cpp, all of it in float32: one file, or the first of parts of so many tensors."""
    import gguf
    import numpy
    from safetensors.numpy import load_file

    told = json.loads((folder / "config.json").read_text())
    made = json.loads((folder / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=parts_of)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(told["hidden_size"])
    writer.add_block_count(told["num_hidden_layers"])
    writer.add_feed_forward_length(told["intermediate_size"])
    writer.add_head_count(told["num_attention_heads"])
    writer.add_head_count_kv(told["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(told["rms_norm_eps"])
    writer.add_rope_dimension_count(told["hidden_size"] // told["num_attention_heads"])
    writer.add_vocab_size(told["vocab_size"])
    words = sorted(made["model"]["vocab"].items(), key=lambda word: word[1])
    special = {"<|start|>", "<|end|>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([word for word, _ in words])
    writer.add_token_types(
        [gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word, _ in words]
    )
    writer.add_token_merges([" ".join(merge) for merge in made["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(1)
    writer.add_add_bos_token(value=False)
    if template is not None:
        writer.add_chat_template(template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, told["num_hidden_layers"])
    heads = {"q_proj": told["num_attention_heads"], "k_proj": told["num_key_value_heads"]}
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.astype(numpy.float32)
        if count := next((count for part, count in heads.items() if part in name), 0):
            # llama.cpp turns neighbouring values, transformers the two halves of a head.
            halves = values.reshape(count, 2, values.shape[0] // count // 2, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), numpy.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return next(iter(sorted(path.parent.glob(f"{path.stem}-00001-of-*.gguf")))) if parts_of else path
