"""Hugging Face folders: which files belong to the model, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import model_bytes
import numpy as np
import pytest
from safetensors.numpy import save_file

from lightship.errors import ProjectError
from lightship.models import compare, detect, propose_requirements

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1",
    "max_position_embeddings": 2048,
}


def folder(path: Path, config: dict[str, object] | None = None, **files: bytes) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    for name, data in files.items():
        (path / name.replace("__", ".")).write_bytes(data)
    return path


def with_weights(path: Path, name: str = "model.safetensors") -> Path:
    save_file({"w": np.zeros((4, 4), np.float16)}, path / name)
    return path


def names(path: Path, files: tuple[Path, ...]) -> list[str]:
    return [file.relative_to(path).as_posix() for file in files]


def test_a_folder_tells_task_type_and_files(tmp_path: Path) -> None:
    path = with_weights(
        folder(
            tmp_path / "llm", tokenizer__json=b"{}", generation_config__json=b"{}", README__md=b"#", tf_model__h5=b"x"
        )
    )
    (path / "pytorch_model.bin").write_bytes(b"the same weights again")
    model = detect(path)
    assert (model.format, model.engine, model.dtype) == ("huggingface", "transformers-generation", "float16")
    assert names(path, model.files) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    details = dict(model.details)
    assert details["architecture"] == "LlamaForCausalLM"
    assert (details["task"], details["parameters"], details["context"]) == ("text generation", "16", "2048")
    assert any("pytorch_model.bin, tf_model.h5" in note for note in model.notes)
    assert propose_requirements(model) == ("jinja2", "safetensors", "torch", "transformers>=4.40.1")
    assert "older" not in "".join(compare(model, {"transformers": "4.50.0"}))
    assert compare(model, {"transformers": "4.30.0"})


def test_a_file_of_the_folder_stands_for_the_folder(tmp_path: Path) -> None:
    path = with_weights(folder(tmp_path / "llm", tokenizer__json=b"{}"))
    assert detect(path / "model.safetensors").path == path
    assert detect(path / "config.json").format == "huggingface"


def test_shards_are_all_there_or_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "llm")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with_weights(path, shards["a"])
    with pytest.raises(ProjectError, match=r"lacks 1 of 2 shards: model-00002-of-00002\.safetensors"):
        detect(path)
    with_weights(path, shards["b"])
    model = detect(path)
    assert dict(model.details)["shards"] == "2" and dict(model.details)["parameters"] == "32"
    assert "model.safetensors.index.json" in names(path, model.files)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a/b", "..", ""])
def test_a_shard_outside_of_the_folder_is_refused(tmp_path: Path, shard: str) -> None:
    path = folder(tmp_path / "llm")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ProjectError, match="no plain file name"):
        detect(path)


def test_pickled_weights_are_judged(tmp_path: Path) -> None:
    path = folder(tmp_path / "llm")
    model_bytes.torch_state(path / "pytorch_model.bin")
    model = detect(path)
    assert model.pickle is not None and model.pickle.verdict == "safe"
    assert model.dtype == "float32" and any("safe_serialization" in note for note in model.notes)
    model_bytes.torch_state(path / "pytorch_model.bin", b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.")
    dangerous = detect(path)
    assert dangerous.pickle is not None and dangerous.pickle.verdict == "dangerous"
    assert dangerous.notes[0].startswith("DANGEROUS")


def test_code_of_the_folder_needs_trust(tmp_path: Path) -> None:
    plain = with_weights(folder(tmp_path / "plain", modeling__py=b"x = 1\n"))
    assert detect(plain).code == ()
    path = with_weights(folder(tmp_path / "own", {"auto_map": {"AutoModel": "modeling.M"}}, modeling__py=b"x = 1\n"))
    model = detect(path)
    assert model.code == (path / "modeling.py",)
    assert any("trust_remote_code" in note for note in model.notes)


@pytest.mark.parametrize(
    ("config", "files", "package"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, {}, "bitsandbytes"),
        ({}, {"tokenizer.model": b"x"}, "sentencepiece"),
        ({}, {"modules.json": b'[{"path": ""}, {"path": "1_Pooling"}, {"path": "../x"}]'}, "sentence-transformers"),
        ({"architectures": ["ViTForImageClassification"]}, {"preprocessor_config.json": b"{}"}, "pillow"),
    ],
)
def test_what_else_a_folder_needs(tmp_path: Path, config, files, package: str) -> None:
    path = with_weights(folder(tmp_path / "model", config))
    for name, data in files.items():
        (path / name).write_bytes(data)
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_bytes(b"{}")
    model = detect(path)
    assert package in propose_requirements(model)
    assert ("1_Pooling/config.json" in names(path, model.files)) == (package == "sentence-transformers")


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("config.json", b"{", "damaged"),
        ("config.json", b'{"architectures": 3}', "damaged"),
        ("config.json", b"[" * 100_000, "damaged"),
        ("model.safetensors", b"x", "damaged"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 3}}', "damaged"),
        ("modules.json", b"3", "damaged"),
    ],
)
def test_damaged_parts_are_named(tmp_path: Path, name: str, data: bytes, why: str) -> None:
    path = with_weights(folder(tmp_path / "llm"))
    (path / name).write_bytes(data)
    with pytest.raises(ProjectError, match=why) as caught:
        detect(path)
    assert name in caught.value.message


def test_folders_of_other_tools_get_advice(tmp_path: Path) -> None:
    for name, why in (
        ("saved_model.pb", "SavedModel"),
        ("MLmodel", "MLflow"),
        ("adapter_config.json", "PEFT"),
        ("model_index.json", "diffusers"),
        ("nothing.txt", "neither a config.json nor a genai_config.json"),
    ):
        path = tmp_path / name.partition(".")[0]
        path.mkdir()
        (path / name).write_bytes(b"x")
        with pytest.raises(ProjectError, match=why) as caught:
            detect(path)
        assert caught.value.hint
    with pytest.raises(ProjectError, match="no weights"):
        detect(folder(tmp_path / "bare"))
