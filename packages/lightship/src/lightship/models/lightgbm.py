"""LightGBM's text files: a header of `key=value` lines, the trees, and a closing part."""

from __future__ import annotations

import re
from pathlib import Path

from lightship.models.damage import damaged, readable
from lightship.models.model import Format, Model, Opening, Package

_START = re.compile(rb"tree\r?\nversion=v\d")
_HEADER = 4 << 20  # bytes; names of some ten thousand features
_END = b"end of trees"
_TAIL = 4 << 20  # bytes after the trees: feature importances and parameters


def _recognises(opening: Opening) -> bool:
    return _START.match(opening.head) is not None


def _read(path: Path) -> Model:
    with readable(path), path.open("rb") as file:
        start = file.read(_HEADER)
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
    if not _START.match(start):
        raise damaged(path, "it does not start like a LightGBM model")
    if _END not in tail:
        raise damaged(path, "it has no end of its trees")
    header = dict(_lines(start))
    features = header.get("feature_names", "").split()
    classes = header.get("num_class", "1")
    facts = [
        ("objective", header.get("objective")),
        ("features", str(len(features)) if features else None),
        ("classes", classes if classes != "1" else None),
        ("trees", str(len(header["tree_sizes"].split())) if "tree_sizes" in header else None),
        ("format", header.get("version")),
    ]
    return Model(
        path=path,
        format="lightgbm",
        engine="lightgbm",
        size=size,
        dtype="float64",
        files=(path,),
        packages=(Package("lightgbm", None, "runs LightGBM models", minimum=_minimum(header.get("version"))),),
        details=tuple((key, value) for key, value in facts if value),
    )


def _lines(start: bytes) -> list[tuple[str, str]]:
    """The header's entries: the lines before the first tree."""
    entries = []
    for line in start.splitlines()[:1000]:
        if line.startswith(b"Tree="):
            break
        key, separator, value = line.partition(b"=")
        if separator:
            entries.append((key.decode("utf-8", "replace"), value.decode("utf-8", "replace").strip()))
    return entries


def _minimum(version: str | None) -> str | None:
    """Format v4 came with LightGBM 4.0; older versions refuse it."""
    return "4.0.0" if version == "v4" else None


FORMAT = Format("LightGBM", (".lgb", ".lgbm"), _recognises, _read)
LOOSE = Format("LightGBM", (".txt", ".model"), _recognises, _read, certain=False)
