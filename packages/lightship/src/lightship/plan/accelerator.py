"""CPU or GPU: what `[target] gpu` says, else read from the requirements, without resolving anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from lightship.errors import ProjectError
from lightship.plan.decision import Decision

Accelerator = Literal["cpu", "cuda"]

_CUDA_PACKAGES = re.compile(
    r"nvidia-.*|onnxruntime-gpu|cupy-cuda.*|jax-cuda.*|vllm|bitsandbytes|tensorrt.*|.*-cu1[123]"
)
_EITHER = {"bitsandbytes"}  # what computes on CPUs too, where PyTorch does


def decide_accelerator(requirements: Mapping[str, str], gpu: str | None = None) -> Decision[Accelerator]:
    """`requirements` are names with their exact pins ('' where not pinned); `gpu` is `[target] gpu`.

    Raises: `ProjectError` where the two contradict each other.
    """
    if gpu is not None:
        if "+cpu" in requirements.get("torch", ""):
            raise ProjectError(
                f'[target] gpu = "{gpu}", but the requirements pin torch to a build for CPUs, '
                f"{requirements['torch']}.",
                hint="Pin the version without +cpu, from an index that has PyTorch's builds for CUDA; or leave "
                "[target] gpu out.",
            )
        shown, reason = "CUDA, from the wheels", "[target] gpu says that the image is for NVIDIA's GPUs"
        return Decision("accelerator", "cuda", shown, reason, ("start it with one: docker run --gpus all",))
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
