"""Hugging Face folders through the pipelines of transformers: what a pipeline answers is what is answered here.

Nothing is fetched: what is missing in the folder is an error. Weights that are pickles, and Python files that the
folder brings, are used with `trust` only. Text is cut off at the model's length.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from lightship_runtime.engines.engine import (
    Engine,
    Fork,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
)
from lightship_runtime.engines.gpu import gpu_is_there
from lightship_runtime.engines.transformers_tasks import TASKS, Task
from lightship_runtime.errors import IntegrityError, StartError

_MAX_CONFIG = 4 << 20  # bytes


class TransformersEngine(Engine):
    """A pipeline of one of the tasks in `transformers_tasks`, on the GPU where there is one."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "torch", "transformers")
    environment: ClassVar[Mapping[str, str]] = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # they would go between the lines of the log
        "TOKENIZERS_PARALLELISM": "false",  # its threads do not survive a fork
        "USE_TF": "0",
        "USE_FLAX": "0",
    }
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = "one thread"  # as PyTorch

    def __init__(self, pipeline: Any, task: Task) -> None:
        self._task = task
        self._pipeline = pipeline
        self._signature = task.signature(pipeline)

    @classmethod
    def forking(cls) -> Fork:
        return "never" if gpu_is_there() else cls.fork

    @classmethod
    def load(cls, source: ModelSource) -> TransformersEngine:
        import torch
        from transformers import pipeline

        torch.set_num_threads(source.threads)
        name = source.model.task or _task_of(source)
        if name is None or name not in TASKS:
            raise StartError(
                f"{source.model.path} is for {name or 'no task that its config.json names'}; this version serves "
                f"{', '.join(sorted(TASKS))}.",
                hint="Say the task, or serve the model with a Python file that has load() and predict().",
            )
        check_folder(source)
        made = pipeline(
            name,
            model=str(source.path),
            device="cuda" if torch.cuda.is_available() else "cpu",
            trust_remote_code=source.model.trust,
        )
        made.model.requires_grad_(requires_grad=False)
        return cls(made, TASKS[name])

    @property
    def pipeline(self) -> Any:
        """The library's own object, which the builder converts."""
        return self._pipeline

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        import torch

        with torch.inference_mode():
            return self._task.predict(self._pipeline, list(instances), options)

    def set_threads(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)


def _task_of(source: ModelSource) -> str | None:
    """The task that the architecture in config.json is made for."""
    try:
        with (source.path / "config.json").open("rb") as file:
            config = json.loads(file.read(_MAX_CONFIG))
    except OSError as error:
        raise source.unreadable(error) from error
    except ValueError as error:
        raise StartError(f"{source.model.path}/config.json is no JSON.", hint="Copy the folder again.") from error
    architectures = config.get("architectures") if isinstance(config, dict) else None
    for architecture in architectures if isinstance(architectures, list) else []:
        if str(architecture).endswith(("LMHeadModel", "DoubleHeadsModel", "DecoderModel")):
            return "text-generation"
        for name, task in TASKS.items():
            if task.architecture and str(architecture).endswith(task.architecture):
                return name
    return None


def check_folder(source: ModelSource) -> None:
    """Refuse what runs code of the folder's author, unless it is trusted; then name it."""
    # Where one of these is there, transformers takes it before any other.
    pickled = not any(
        (source.path / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")
    )
    if pickled and not source.model.trust:
        raise IntegrityError(
            f"{source.model.path} has no safetensors weights, and others are pickles, which can run code when they "
            "are loaded.",
            hint="Save the model again with save_pretrained(), which writes safetensors; or trust it.",
        )
    if source.model.trust:
        own = sorted(file.name for file in source.path.glob("*.py"))
        found = (["pickled weights"] if pickled else []) + own
        if found:
            warnings.warn(f"{source.model.path} may run code of its author: {', '.join(found)}.", stacklevel=2)
