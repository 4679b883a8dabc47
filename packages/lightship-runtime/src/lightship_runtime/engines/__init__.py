"""Engines: one small file per library that runs models, behind the interface `Engine`.

A file here may import its library inside its functions only, and of lightship_runtime no more than this room,
`config` and `errors`, and where it writes text what `generation` has for engines, and `payload`'s RequestError. A new
engine is a new file and a line in `registry`; `arrays`, `tensors` and `specs` are what engines share.
"""

from lightship_runtime.engines.engine import (
    BadInstances,
    Engine,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
    TensorSpec,
)
from lightship_runtime.engines.registry import find_engine, import_packages

__all__ = [
    "BadInstances",
    "Engine",
    "Instances",
    "ModelSource",
    "Options",
    "Prediction",
    "Signature",
    "TensorSpec",
    "find_engine",
    "import_packages",
]
