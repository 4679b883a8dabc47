"""CatBoost's binary files: a magic number, the size of the core, and the core as a flatbuffer."""

from __future__ import annotations

import re
from pathlib import Path

from lightship.models.damage import damaged, readable
from lightship.models.model import Format, Model, Opening, Package
from lightship.models.stream import U32, Stream

MAGIC = b"CBM1"
_WINDOW = 1 << 20  # bytes from either end, where the notes of the training lie
_VERSION = re.compile(rb"Branch: tags/v(\d{1,4}\.\d{1,4}(?:\.\d{1,4})?)\b")
_LOSS = re.compile(rb'"loss_function":\{"type":"(\w{1,40})"')


def _recognises(opening: Opening) -> bool:
    return opening.head.startswith(MAGIC)


def _read(path: Path) -> Model:
    with readable(path), path.open("rb") as file:
        stream = Stream.of_file(file, path)
        if stream.read(4) != MAGIC:
            raise damaged(path, f"it does not start with {MAGIC.decode()}")
        core = stream.number(U32)
        stream.skip(core)
        size = file.seek(0, 2)
        file.seek(0)
        text = file.read(_WINDOW)
        file.seek(max(len(text), size - _WINDOW))
        text += file.read(_WINDOW)
    version, loss = _VERSION.search(text), _LOSS.search(text)
    saved = version[1].decode() if version else None
    reason = f"the model was saved with CatBoost {saved}" if saved else "runs CatBoost models"
    details = [("loss", loss[1].decode())] if loss else []
    if saved:
        details.append(("saved with", f"CatBoost {saved}"))
    return Model(
        path=path,
        format="catboost",
        engine="catboost",
        size=size,
        dtype="float64",
        files=(path,),
        packages=(Package("catboost", saved, reason),),
        details=tuple(details),
    )


FORMAT = Format("CatBoost", (".cbm",), _recognises, _read)
