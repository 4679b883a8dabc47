"""Keras 3 files: a zip of the architecture as JSON and the weights."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lightship.models.damage import damaged
from lightship.models.documents import decode
from lightship.models.model import Format, Model, Opening, Package
from lightship.models.zip_archive import MAGIC, open_zip

_MEMBERS = ("config.json", "metadata.json")
_LIMIT = 16 << 20  # bytes of either document


class _About(msgspec.Struct):
    keras_version: str


class _Config(msgspec.Struct):
    class_name: str = "unknown"


def _recognises(opening: Opening) -> bool:
    if not opening.head.startswith(MAGIC):
        return False
    with open_zip(opening.path) as archive:
        return "model.weights.h5" in archive.names and set(_MEMBERS) <= set(archive.names)


def _read(path: Path) -> Model:
    with open_zip(path) as archive:
        if not set(_MEMBERS) <= set(archive.names):
            raise damaged(path, "it lacks config.json or metadata.json")
        config = decode(archive.read("config.json", _LIMIT), _Config, path, "its config.json")
        about = decode(archive.read("metadata.json", _LIMIT), _About, path, "its metadata.json")
    version = about.keras_version
    return Model(
        path=path,
        format="keras",
        engine="python",
        size=path.stat().st_size,
        dtype=None,
        files=(path,),
        packages=(Package("keras", version, f"the model was saved with Keras {version}"),),
        details=(("network", config.class_name), ("saved with", f"Keras {version}")),
        notes=("write a Python file with load() and predict() for it, or export it to ONNX",),
        needs_code=True,
    )


FORMAT = Format("Keras", (".keras",), _recognises, _read)
