"""Every format that is recognised, in the order in which they are asked.

Formats with a magic number come first; ONNX, which has none, comes last of the binary ones.
"""

from __future__ import annotations

from pathlib import Path

from lightship.models import (
    catboost,
    genai,
    gguf,
    huggingface,
    keras,
    lightgbm,
    onnx,
    pickled,
    python_file,
    safetensors,
    skops,
    torch,
    xgboost,
)
from lightship.models.model import Format, Model

FORMATS: tuple[Format, ...] = (
    gguf.FORMAT,
    catboost.FORMAT,
    lightgbm.FORMAT,
    lightgbm.LOOSE,
    skops.FORMAT,
    keras.FORMAT,
    torch.FORMAT,
    pickled.FORMAT,
    safetensors.FORMAT,
    xgboost.FORMAT,
    xgboost.LOOSE,
    onnx.FORMAT,
    python_file.FORMAT,
)

# What says that a folder is a model as a whole.
CONFIGS = (genai.CONFIG, huggingface.CONFIG)


def is_model_folder(path: Path) -> bool:
    """Whether a folder is a model as a whole."""
    return genai.is_folder(path) or huggingface.is_folder(path)


def read_folder(path: Path) -> Model:
    """The model that a folder is; ONNX Runtime GenAI's may have the config.json of what it was made of beside it."""
    if (path / genai.CONFIG).is_file():
        return genai.read_folder(path)
    return huggingface.read_folder(path)
