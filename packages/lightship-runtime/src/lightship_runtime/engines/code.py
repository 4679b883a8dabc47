"""Running a Python file of the user's as a module."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from lightship_runtime.errors import StartError


def run_file(path: Path, shown: str) -> ModuleType:
    """Import a file by its path. `shown` is what a person calls it. Raises StartError where it is no Python file."""
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise StartError(f"{shown} is not a Python file that can be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import would, so that the file's classes can be pickled
    spec.loader.exec_module(module)
    return module
