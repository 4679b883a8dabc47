"""The one model of a project folder."""

from __future__ import annotations

import re
from pathlib import Path

from lightship.errors import ProjectError
from lightship.models.damage import readable
from lightship.models.detection import opened
from lightship.models.registry import FORMATS, is_model_folder

PLACES = ("", "models", "model")  # folders of a project where a model usually lies
_MANY = 2000  # entries of a folder that are looked at
_LATER_SHARD = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.")


def find(directory: Path) -> Path:
    """The model of a project: in its folder, in `models/` or in `model/`.

    A Python file with `load()` and `predict()` in the project's folder wins over model files: it is what loads them.

    Raises:
        ProjectError: There is none, or there are several and nothing says which.
    """
    with readable(directory):
        if is_model_folder(directory):
            return directory
        # A place that is a model itself is found in the project's folder; what it holds are its parts.
        places = [place for place in PLACES if not place or not is_model_folder(directory / place)]
        found = [path for place in places for path in _models_in(directory / place, python=not place)]
    python = [path for path in found if path.suffix == ".py"]
    candidates = python or found
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = [str(path.relative_to(directory)) for path in candidates]
        shown = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
        raise ProjectError(
            f"{directory} has {len(names)} models: {shown}.",
            hint=f'Say which one in lightship.toml:\n[model]\npath = "{names[0]}"',
        )
    suffixes = sorted({suffix for format_ in FORMATS if format_.certain for suffix in format_.suffixes})
    raise ProjectError(
        f"{directory} has no model, and neither have its folders models/ and model/. Looked for "
        f"{', '.join(suffixes)}, XGBoost's .json, LightGBM's .txt, Hugging Face folders and Python files with load() "
        "and predict().",
        hint='Put the model there, or name it in lightship.toml: [model] path = "..."',
    )


def _models_in(folder: Path, *, python: bool) -> list[Path]:
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir())[:_MANY]:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if is_model_folder(path):
                found.append(path)
        elif path.is_file() and (python or path.suffix != ".py") and _is_model(path):
            found.append(path)
    return found


def _is_model(path: Path) -> bool:
    """Whether a file is a model by its name, or by its content where the name alone does not say."""
    name = path.name.lower()
    if _LATER_SHARD.search(name):
        return False
    formats = [format_ for format_ in FORMATS if name.endswith(format_.suffixes)]
    if any(format_.certain for format_ in formats):
        return True
    opening = opened(path) if formats else None
    return opening is not None and any(format_.recognises(opening) for format_ in formats)
