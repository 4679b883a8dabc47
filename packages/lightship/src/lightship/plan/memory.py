"""How much memory a language model takes when it is served: its weights, what it keeps of texts, all that is around.

    weights   parameters × bits, or the files as they are
    cache     tokens of the context × requests at once × numbers of a token (layers × heads × sizes of key and value)
              × bytes of a number
    runtime   Python, the engine's libraries, the tokenizer, the server's other processes, and room to compute in

The constants were measured on Linux x86-64 with Python 3.11 as proportional set size (PSS) of all processes of the
server; tests/end_to_end/test_language_models.py measures again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightship.models import Language
from lightship_runtime.config import EngineName

Quantization = Literal["4bit", "8bit", "none"]

_MB = 1_000_000
# What is there with a model of no size: the three processes of the server, the libraries, a tokenizer.
_AROUND: dict[EngineName, int] = {
    "onnxruntime-genai": 160 * _MB,  # onnxruntime-genai 0.18
    "transformers-generation": 400 * _MB,  # torch 2.13 for CPUs, transformers 5.23
    "llamacpp": 85 * _MB,  # xllamacpp 2026.10
    # Of the GPU's memory: CUDA's context, graphs, a step of 2,048 tokens. Not measured, for want of a GPU.
    "vllm": 3000 * _MB,
}
VLLM_SHARE = 0.92  # of the GPU's memory that vLLM takes, whatever the model: its gpu_memory_utilization
_CHUNK = 256  # tokens of a prompt that are computed at once, see lightship_runtime.engines.genai_lanes
# ONNX Runtime's MatMulNBits: blocks of 32 weights share a scale in single precision.
_SCALE_BITS = 32 / 32
_BITS: dict[Quantization, float] = {"4bit": 4 + _SCALE_BITS, "8bit": 8 + _SCALE_BITS, "none": 32.0}
# bitsandbytes 0.50: NF4 has a scale in single precision for 64 weights, LLM.int8 one for each row: next to none.
_LOADED_BITS: dict[Quantization, float] = {"4bit": 4 + 32 / 64, "8bit": 8.0}
_BITSANDBYTES = 40 * _MB  # its library, and accelerate
_WIDEST = 4  # times `hidden`: the widest part of a layer, and one side of its largest matrix
_INTEGER_BYTES = 4 + 2 + 4  # of a number between layers in LLM.int8


@dataclass(frozen=True)
class Memory:
    """Bytes of each part; `token` are those that one token of one text takes of the cache."""

    weights: int
    cache: int
    runtime: int
    token: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.runtime


def estimate(
    language: Language,
    engine: EngineName,
    *,
    quantize: Quantization | None,
    files: int,
    context: int,
    slots: int,
    workers: int = 1,
) -> Memory:
    """The memory of a server that writes `slots` texts of `context` tokens at once in each of `workers` processes.

    Args:
        quantize: What the weights are converted to, or loaded with; None where they are served as they are.
        files: Bytes of the files as they are.
    """
    if engine == "transformers-generation":
        slots = 1 << (slots - 1).bit_length()  # rows are taken in powers of two
    if engine == "vllm":
        weights = _on_gpu(language, quantize, files)
    elif quantize is None:
        weights = files
    elif engine == "transformers-generation":
        weights = loaded_size(language, quantize, files)
    else:
        weights = converted_size(language, quantize)
    token = language.cache_numbers() * _cache_bytes(engine, language, files)
    return Memory(
        weights=weights * workers,
        cache=token * context * slots * workers,
        runtime=_around(engine, language, quantize)
        + _computing(engine, language, context, quantize) * slots * workers,
        token=token,
    )


def converted_size(language: Language, quantize: Quantization) -> int:
    """Bytes of the weights that ONNX Runtime GenAI's model builder makes of a model.

    The first table of the vocabulary stays in single precision. Where it is the last one too it is shared, with
    8 bits alone the last one is a quantised copy: there are no look-ups in tables of 8 bits.
    """
    table = language.vocabulary * language.hidden
    shared = language.tied and quantize != "8bit"
    quantised = language.parameters if language.tied else language.parameters - table
    positions = (language.context or 0) * language.head_size * 4  # sines and cosines of every position
    return int(quantised * _BITS[quantize] / 8) + (0 if shared else table * 4) + positions


def loaded_size(language: Language, quantize: Quantization, files: int) -> int:
    """Bytes of the weights that transformers loads with fewer bits: the tables of words stay as they are."""
    tables = language.vocabulary * language.hidden * (1 if language.tied else 2)
    tables = min(tables, language.parameters)
    return int((language.parameters - tables) * _LOADED_BITS[quantize] / 8) + tables * _number(language, files)


def _on_gpu(language: Language, quantize: Quantization | None, files: int) -> int:
    """Bytes of the weights in vLLM: 16 bits each, where the files have more; the tables of words always."""
    tables = language.vocabulary * language.hidden * (1 if language.tied else 2)
    layers = max(language.parameters - tables, 0)
    if quantize == "4bit":
        return layers * 9 // 16 + tables * 2  # NF4 has a scale in single precision for 64 weights
    if quantize == "8bit":
        return layers + tables * 2
    return min(files, language.parameters * 2) if language.parameters else files


def _cache_bytes(engine: EngineName, language: Language, files: int) -> int:
    """Bytes of a number in the cache: single precision on CPUs, half in llama.cpp, as the weights in transformers."""
    if engine in ("llamacpp", "vllm"):
        return 2
    return _number(language, files) if engine == "transformers-generation" else 4


def _number(language: Language, files: int) -> int:
    """Bytes of a number in the files of the weights."""
    return 2 if language.parameters and files / language.parameters < 3 else 4


def _around(engine: EngineName, language: Language, quantize: Quantization | None) -> int:
    """The constant of the engine, and what it takes to compute with weights of fewer bits in transformers."""
    if engine != "transformers-generation" or quantize is None:
        return _AROUND[engine]
    return _AROUND[engine] + _BITSANDBYTES + _WIDEST * language.hidden**2 * 4


def _computing(engine: EngineName, language: Language, context: int, quantize: Quantization | None) -> int:
    """Room that one text needs to be computed in: the scores of the whole vocabulary for its last token.

    In ONNX Runtime GenAI for every token of a part of the prompt: its Engine takes no graph that leaves them out.
    LLM.int8 has what a layer makes of all tokens of a prompt as integers, as halves and in single precision.
    """
    tokens = min(_CHUNK, context) if engine == "onnxruntime-genai" else 1
    integers = engine == "transformers-generation" and quantize == "8bit"
    layer = context * _WIDEST * language.hidden * _INTEGER_BYTES if integers else 0
    return tokens * language.vocabulary * 4 + layer
