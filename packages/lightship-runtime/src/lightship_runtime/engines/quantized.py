"""Weights with fewer bits, made while transformers loads a model: by bitsandbytes, the same on CPUs and GPUs.

The files of the model stay as they are. `4bit` is NF4 in blocks of 64 with a scale each, `8bit` a scale for each row
(LLM.int8); the tables of words stay in the precision of the files.
"""

from __future__ import annotations

import ctypes
import logging
from typing import Any

from lightship_runtime.engines.engine import ModelSource
from lightship_runtime.errors import StartError

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
# Bytes. Beyond it a block is given back at once when it is freed: while weights are made that keeps the matrices in
# full precision from staying, half as much again as the model; later it would make every step slower.
_SMALL, _LARGE = 1 << 20, 32 << 20


def quantized(source: ModelSource) -> dict[str, Any]:
    """The options of `from_pretrained` for `source.model.quantize`; none where the weights stay as they are.

    Raises: `StartError` where bitsandbytes is missing or cannot be loaded.
    """
    bits = source.model.quantize
    if bits is None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    try:
        import accelerate  # noqa: F401  # transformers puts the weights into place with it
        import bitsandbytes  # noqa: F401
    except (ImportError, OSError) as error:
        raise StartError(
            f"{source.model.path} is to be loaded with {bits} weights, and {error}.",
            hint='Install bitsandbytes and accelerate, or leave [model] quantize at "auto".',
        ) from error
    _tell_allocator(_MMAP_THRESHOLD, _SMALL)
    if bits == "8bit":
        # It warns at each product of matrices that numbers of single precision are rounded to half.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    # Where the model's own numbers are of single precision or bfloat16 bitsandbytes computes in those instead.
    computing = torch.float16 if torch.cuda.is_available() else torch.float32
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computing)
    return {"quantization_config": four}


def settle(source: ModelSource, model: Any) -> None:
    """Make a model that was loaded with fewer bits as small as it stays, and ready for its first text.

    The files stay mapped as long as one tensor lies in them, and the first text arranges weights anew for processors
    with instructions for bfloat16.
    """
    if source.model.quantize is None:
        return
    import torch

    for tensor in (*model.parameters(), *model.buffers()):
        if type(tensor) in (torch.nn.Parameter, torch.Tensor) and tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
    with torch.inference_mode():
        model(torch.zeros((1, 1), dtype=torch.long, device=model.device))
    _tell_allocator(_MMAP_THRESHOLD, _LARGE)
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _tell_allocator(what: int, value: int) -> None:
    """glibc's mallopt(3); another C library has none, and keeps more than it needs."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(what, value)
