"""CPU or GPU: read from what the requirements pin, without resolving anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from lightship.plan.decision import Decision

Accelerator = Literal["cpu", "cuda"]

_CUDA_PACKAGES = re.compile(
    r"nvidia-.*|onnxruntime-gpu|cupy-cuda.*|jax-cuda.*|vllm|bitsandbytes|tensorrt.*|.*-cu1[123]"
)
_EITHER = {"bitsandbytes"}  # what computes on CPUs too, where PyTorch does


def decide_accelerator(requirements: Mapping[str, str]) -> Decision[Accelerator]:
    """`requirements` are names with their exact pins ('' where not pinned)."""
    on_cpu = "+cpu" in requirements.get("torch", "")
    found = sorted(name for name in requirements if _CUDA_PACKAGES.fullmatch(name))
    if found and not (on_cpu and set(found) <= _EITHER):
        return Decision(
            "accelerator",
            "cuda",
            "CUDA, from the wheels",
            "the requirements bring CUDA's own libraries",
            tuple(found),
        )
    if "torch" in requirements and not on_cpu:
        version = requirements["torch"] or "not pinned"
        return Decision(
            "accelerator",
            "cpu",
            "as torch's wheel says",
            "torch from a plain index brings CUDA (gigabytes); pin the +cpu build for a CPU image",
            (f"torch {version}",),
        )
    return Decision("accelerator", "cpu", "CPU", "no requirement needs a GPU")
