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
}
_CHUNK = 256  # tokens of a prompt that are computed at once, see lightship_runtime.engines.genai_lanes
# ONNX Runtime's MatMulNBits: blocks of 32 weights share a scale in single precision.
_SCALE_BITS = 32 / 32
_BITS: dict[Quantization, float] = {"4bit": 4 + _SCALE_BITS, "8bit": 8 + _SCALE_BITS, "none": 32.0}


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
        quantize: What the weights are converted to; None where they are served as they are.
        files: Bytes of the files as they are.
    """
    weights = files if quantize is None else converted_size(language, quantize)
    token = language.cache_numbers() * _cache_bytes(engine, language, files)
    return Memory(
        weights=weights * workers,
        cache=token * context * slots * workers,
        runtime=_AROUND[engine] + _computing(engine, language, context, quantize) * slots * workers,
        token=token,
    )


def converted_size(language: Language, quantize: Quantization) -> int:
    """Bytes of the weights that ONNX Runtime GenAI's model builder makes of a model.

    Where the first table of the vocabulary is the last one too it is quantised with the rest, else it stays as it is.
    """
    table = 0 if language.tied or quantize == "none" else language.vocabulary * language.hidden
    positions = (language.context or 0) * language.head_size * 4  # sines and cosines of every position
    return int((language.parameters - table) * _BITS[quantize] / 8) + table * 4 + positions


def _cache_bytes(engine: EngineName, language: Language, files: int) -> int:
    """Bytes of a number in the cache: single precision on CPUs, half in llama.cpp, as the weights in transformers."""
    if engine == "llamacpp":
        return 2
    if engine == "transformers-generation" and language.parameters:
        return 2 if files / language.parameters < 3 else 4
    return 4


def _computing(engine: EngineName, language: Language, context: int, quantize: Quantization | None) -> int:
    """Room that one text needs to be computed in: the scores of the whole vocabulary for its last token.

    In a folder of ONNX Runtime GenAI that somebody else has converted: for every token of a part of the prompt.
    """
    all_tokens = engine == "onnxruntime-genai" and quantize is None
    return (min(_CHUNK, context) if all_tokens else 1) * language.vocabulary * 4
