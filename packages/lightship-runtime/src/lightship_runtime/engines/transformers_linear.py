"""Products with a model's weights in single precision, by oneDNN where PyTorch's own choice is slow.

PyTorch takes MKL for them, which leaves out AVX-512 on processors that are not Intel's. On an AMD EPYC (torch 2.13, a
single thread, SmolLM2-135M) oneDNN, which is in PyTorch too, needs 26 ms instead of 35 for one token, 44 instead of
67 for eight, and 195 instead of 432 for 128. It takes the weights as they lie: nothing is copied or packed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

_PROCESSOR = Path("/proc/cpuinfo")


def quicken(model: Any, processor: Path = _PROCESSOR) -> int:
    """Have oneDNN compute a model's linear layers, where that is quicker. How many they are."""
    import torch

    if model.device.type != "cpu" or not (_slow_choice(processor) and _is_there()):
        return 0
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear and layer.weight.dtype == torch.float32 and not layer.weight.requires_grad
    ]
    for layer in layers:
        layer.forward = partial(_product, layer)
    return len(layers)


def _product(layer: Any, numbers: Any) -> Any:
    import torch

    return torch.ops.mkldnn._linear_pointwise(numbers, layer.weight, layer.bias, "none", [], "")


def _slow_choice(processor: Path) -> bool:
    """Whether this is a processor with AVX-512 that is not Intel's."""
    try:
        with processor.open() as file:
            told = file.read(1 << 14)
    except OSError:
        return False
    return "AuthenticAMD" in told and "avx512f" in told


def _is_there() -> bool:
    """Whether the operation, which PyTorch's compiler uses and no documentation promises, does what it did."""
    import torch

    numbers = torch.arange(12.0).reshape(1, 3, 4)
    weight, bias = torch.arange(8.0).reshape(2, 4), torch.arange(2.0)
    try:
        found = torch.ops.mkldnn._linear_pointwise(numbers, weight, bias, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool(torch.allclose(found, torch.nn.functional.linear(numbers, weight, bias)))
