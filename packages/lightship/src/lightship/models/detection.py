"""What a file or folder is: by its content first, then by its name."""

from __future__ import annotations

import stat
from pathlib import Path

from lightship.errors import ProjectError
from lightship.models.damage import readable
from lightship.models.elsewhere import known_elsewhere
from lightship.models.model import Model, Opening
from lightship.models.registry import CONFIGS, FORMATS, is_model_folder, read_folder

HEAD = 4096  # bytes of a file that formats are recognised by
_LFS_POINTER = b"version https://git-lfs"
_FOLDER_FILES = (
    ".safetensors",
    ".bin",
    "config.json",
    ".index.json",
    ".onnx",
    ".data",
)  # parts of a folder that is a model


def detect(path: Path) -> Model:
    """What the model at `path` is, without loading it.

    A file of a Hugging Face folder stands for the whole folder.

    Raises:
        ProjectError: There is nothing, it cannot be read, it is empty or damaged, or it is no known format.
    """
    with readable(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _of_folder(path)
        if not stat.S_ISREG(mode):
            raise ProjectError(f"{path} is no plain file.", hint="Name a model file, or a folder with a model.")
        if path.name.endswith(_FOLDER_FILES) and is_model_folder(path.parent):
            model = read_folder(path.parent)
            if path in model.files:
                return model
        return _of_file(path)


def _of_file(path: Path) -> Model:
    opening = opened(path)
    if not opening.size:
        raise ProjectError(
            f"{path} is empty.", hint="Save the model again; an interrupted save or download leaves empty files."
        )
    if opening.head.startswith(_LFS_POINTER):
        raise ProjectError(
            f"{path} is a Git LFS pointer, not the model itself.", hint="Fetch the real file: git lfs pull"
        )
    for format_ in FORMATS:
        if format_.recognises(opening):
            return format_.read(path)
    what, hint = known_elsewhere(opening)
    by_name = [format_ for format_ in FORMATS if path.name.lower().endswith(format_.suffixes)]
    if what is None and by_name and (by_name[0].certain or path.suffix == ".py"):
        return by_name[0].read(path)
    names = dict.fromkeys(format_.name for format_ in FORMATS)
    raise ProjectError(
        f"{path} is {what or 'no model that Lightship knows'}. Recognised are {', '.join(names)}, and folders "
        "of Hugging Face and ONNX Runtime GenAI.",
        hint=hint,
    )


def opened(path: Path) -> Opening:
    """The start of a file."""
    with path.open("rb", buffering=0) as file:
        head = file.read(HEAD)
        return Opening(path, head, file.seek(0, 2))


def _of_folder(path: Path) -> Model:
    if any((path / name).is_file() for name in CONFIGS):
        return read_folder(path)
    if (path / "saved_model.pb").is_file():
        raise ProjectError(
            f"{path} is a TensorFlow SavedModel, which Lightship does not serve.",
            hint="Convert it to ONNX with tf2onnx, or write a Python file with load() and predict().",
        )
    if (path / "MLmodel").is_file():
        raise ProjectError(
            f"{path} is an MLflow model.", hint="Name the model file inside of it, such as model.pkl or model.onnx."
        )
    for name, library in (("adapter_config.json", "PEFT"), ("model_index.json", "diffusers")):
        if (path / name).is_file():
            raise ProjectError(
                f"{path} is a folder of {library} ({name}), which needs code of its own to run.",
                hint=f"Write a Python file with load(), which builds it with {library}, and predict().",
            )
    raise ProjectError(
        f"{path} is a folder, but no model that is one: it has neither a config.json nor a genai_config.json.",
        hint="Name the model file inside of it.",
    )
