"""How large a language model is: read from config.json, GGUF and genai_config.json, none of which is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import model_bytes
import numpy as np
import pytest
from safetensors.numpy import save_file

from lightship.errors import ProjectError
from lightship.models import detect, find

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
GENAI: dict[str, Any] = {
    "model": {
        "type": "llama",
        "context_length": 8192,
        "vocab_size": 49152,
        "decoder": {
            "filename": "model.onnx",
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_size": 64,
            "hidden_size": 576,
        },
    }
}


def hugging_face(path: Path, **config: Any) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**LLAMA, **config}))
    save_file({"w": np.zeros((8, 4), np.float32)}, path / "model.safetensors")
    (path / "tokenizer.json").write_text("{}")
    return path


def genai(path: Path, config: object = GENAI) -> Path:
    onnx = pytest.importorskip("onnx")
    path.mkdir()
    helper = onnx.helper
    weights = onnx.numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [None, 4])],
        [helper.make_tensor_value_info("y", 1, [None, 4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.save(model, path / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    (path / "genai_config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text("{}")
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def test_a_config_tells_what_a_token_takes(tmp_path: Path) -> None:
    model = detect(hugging_face(tmp_path / "llm"))
    language = model.language
    assert model.engine == "transformers-generation"
    assert language is not None
    assert (language.layers, language.kv_heads, language.head_size, language.value_size) == (30, 3, 64, 64)
    assert (language.context, language.vocabulary, language.parameters, language.tied) == (8192, 49152, 32, True)
    assert language.cache_numbers() == 30 * 3 * 2 * 64


def test_older_names_and_nested_descriptions_are_known(tmp_path: Path) -> None:
    gpt2 = {"architectures": ["GPT2LMHeadModel"], "n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text(json.dumps(gpt2))
    save_file({"w": np.zeros((8, 4), np.float32)}, tmp_path / "a" / "model.safetensors")
    language = detect(tmp_path / "a").language
    assert language is not None
    assert (language.layers, language.kv_heads, language.head_size, language.context) == (12, 12, 64, 1024)
    nested = {key: LLAMA[key] for key in ("num_hidden_layers", "num_attention_heads", "hidden_size")}
    path = hugging_face(tmp_path / "b", **dict.fromkeys(nested), text_config=nested)
    inner = detect(path).language
    assert inner is not None
    assert inner.layers == 30


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": "9"},
        {"hidden_size": 0},
        {"hidden_size": True},
    ],
)
def test_sizes_that_cannot_be_are_unknown(tmp_path: Path, wrong: dict[str, Any]) -> None:
    model = detect(hugging_face(tmp_path / "llm", **wrong))
    assert model.language is None
    assert model.engine == "transformers-generation"


def test_a_gguf_file_tells_the_same(tmp_path: Path) -> None:
    metadata = {
        **model_bytes.GGUF_METADATA,
        "llama.block_count": 30,
        "llama.attention.head_count": 9,
        "llama.attention.head_count_kv": 3,
        "llama.embedding_length": 576,
    }
    path = tmp_path / "tiny.gguf"
    path.write_bytes(model_bytes.gguf(metadata))
    language = detect(path).language
    assert language is not None
    assert language.cache_numbers() == 30 * 3 * 2 * 64
    assert (language.architecture, language.context, language.vocabulary) == ("llama", 2048, 3)
    assert language.quantisation == "Q4_K_M"
    path.write_bytes(model_bytes.gguf({**metadata, "llama.block_count": 1 << 30}))
    assert detect(path).language is None


def test_a_genai_folder_is_one_model_with_all_its_files(tmp_path: Path) -> None:
    path = genai(tmp_path / "llm")
    model = detect(path)
    assert (model.format, model.engine) == ("onnx-genai", "onnxruntime-genai")
    assert [file.name for file in model.files] == [
        "chat_template.jinja",
        "genai_config.json",
        "model.onnx",
        "model.onnx.data",
        "tokenizer.json",
    ]
    assert model.language is not None
    assert model.language.cache_numbers() == 30 * 3 * 2 * 64
    assert find(tmp_path) == path
    # Its parts stand for the whole, and so does the folder that it was made of where both lie together.
    assert detect(path / "model.onnx").path == path
    (path / "config.json").write_text(json.dumps(LLAMA))
    assert detect(path).format == "onnx-genai"


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "", "a\\b.onnx", "a\0b"])
def test_a_genai_folder_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    told = {"model": {"decoder": {**GENAI["model"]["decoder"], "filename": name}}}
    path = genai(tmp_path / "llm", told)
    with pytest.raises(ProjectError, match="outside of its folder"):
        detect(path)


def test_a_genai_folder_without_its_graph_is_told_of(tmp_path: Path) -> None:
    path = genai(tmp_path / "llm")
    (path / "model.onnx").unlink()
    with pytest.raises(ProjectError, match=r"lacks model\.onnx"):
        detect(path)
    (path / "genai_config.json").write_text("[" * 100_000)
    with pytest.raises(ProjectError, match="not the JSON"):
        detect(path)
