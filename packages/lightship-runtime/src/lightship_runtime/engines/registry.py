"""Engines by name. A library is imported when a model needs it, and not before."""

from __future__ import annotations

import os
from importlib import import_module

from lightship_runtime.engines.engine import Engine
from lightship_runtime.errors import StartError

_CLASSES = {
    "sklearn": "sklearn.SklearnEngine",
    "onnxruntime": "onnxruntime.OnnxEngine",
    "onnxruntime-text": "onnxruntime_text.OnnxTextEngine",
    "xgboost": "xgboost.XGBoostEngine",
    "lightgbm": "lightgbm.LightGBMEngine",
    "catboost": "catboost.CatBoostEngine",
    "torch": "torch.TorchEngine",
    "transformers": "transformers.TransformersEngine",
    "sentence-transformers": "sentence_transformers.SentenceTransformersEngine",
    "onnxruntime-genai": "onnxruntime_genai.OnnxGenAiEngine",
    "transformers-generation": "transformers_generation.TransformersGenerationEngine",
    "llamacpp": "llamacpp.LlamaCppEngine",
    "vllm": "vllm.VllmEngine",
    "python": "python.PythonEngine",
}


def find_engine(name: str) -> type[Engine]:
    """The engine's class; its packages are not imported yet. Raises StartError where there is none of that name."""
    if name not in _CLASSES:
        raise StartError(
            f"This version of lightship-runtime has no engine {name!r}; it has {', '.join(sorted(_CLASSES))}.",
            hint="Serve the model with a Python file that has load() and predict(), or with your own application.",
        )
    module, _, attribute = _CLASSES[name].partition(".")
    found: type[Engine] = getattr(import_module(f"lightship_runtime.engines.{module}"), attribute)
    return found


def import_packages(engine: type[Engine]) -> None:
    """Import what the engine needs, its variables set. Raises StartError that names the package that is missing."""
    for name, value in engine.environment.items():
        os.environ.setdefault(name, value)
    for package in engine.packages:
        try:
            import_module(package)
        except ImportError as error:
            missing = error.name or package
            raise StartError(
                f"The model needs the package {package}, which cannot be imported: {error}.",
                hint=f"Add {missing.partition('.')[0]} to the requirements and build again.",
            ) from error
