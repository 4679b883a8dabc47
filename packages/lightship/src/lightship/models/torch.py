"""PyTorch files: TorchScript and exported programs, which hold their network, and pickled weights, which do not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightship.models.damage import damaged, readable
from lightship.models.model import Format, Model, Opening, Package, counted, dominant
from lightship.models.pickle_machine import Reading
from lightship.models.pickle_reader import read_pickle
from lightship.models.pickle_values import Global, Instance
from lightship.models.pickle_verdict import judge
from lightship.models.pickled import describe, listed, needed
from lightship.models.stream import Stream
from lightship.models.zip_archive import MAGIC, Archive, open_zip

# A first pickle with the number 0x1950a86a20f9469cfc6c, as torch.save wrote before version 1.6.
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES = 4  # magic, protocol, system, object

_STORAGES = {
    "Double": ("float64", 8), "Float": ("float32", 4), "Half": ("float16", 2), "BFloat16": ("bfloat16", 2),
    "Long": ("int64", 8), "Int": ("int32", 4), "Short": ("int16", 2), "Char": ("int8", 1), "Byte": ("uint8", 1),
    "Bool": ("bool", 1), "ComplexFloat": ("complex64", 8), "ComplexDouble": ("complex128", 16),
    "QInt8": ("qint8", 1), "QUInt8": ("quint8", 1), "QInt32": ("qint32", 4), "Untyped": ("uint8", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """The tensors' storages that a pickle refers to."""

    parameters: int
    bytes_by_dtype: dict[str, int]


def _recognises(opening: Opening) -> bool:
    if opening.head.startswith(LEGACY_MAGIC):
        return True
    if not opening.head.startswith(MAGIC):
        return False
    with open_zip(opening.path) as archive:
        return _kind(archive) is not None


def _kind(archive: Archive) -> str | None:
    """What a zip of PyTorch's is, by the members below its one top folder."""
    inner = {name.partition("/")[2] for name in archive.names if "/" in name}
    if "serialized_exported_program.json" in archive.names or "archive_format" in inner:
        return "pt2"
    if "constants.pkl" in inner and "data.pkl" in inner:
        return "torchscript"
    return "torch" if "data.pkl" in inner else None


def _read(path: Path) -> Model:
    with readable(path), path.open("rb") as file:
        legacy = file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC
    if legacy:
        return _pickled(path, read_weights(path))
    with open_zip(path) as archive:
        kind = _kind(archive)
        if kind == "pt2":
            return _exported(path, archive)
        if kind == "torchscript":
            return _script(path, _read_member(archive, path))
        if kind is None:
            raise damaged(path, "it is a zip archive, but none of PyTorch's")
    return _pickled(path, read_weights(path))


def read_weights(path: Path) -> Reading:
    """The pickle of a file that torch.save wrote, in the zip form or in the older one.

    Raises:
        ProjectError: It is neither, or damaged.
    """
    with readable(path), path.open("rb", buffering=0) as file:
        if file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC:
            file.seek(0)
            stream = Stream.of_file(file, path)
            reading = Reading()
            for _ in range(_LEGACY_PICKLES):
                reading = read_pickle(stream)
            return reading
    with open_zip(path) as archive:
        return _read_member(archive, path)


def _read_member(archive: Archive, path: Path) -> Reading:
    members = [name for name in archive.names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(members) != 1:
        raise damaged(path, f"it has {len(members)} members data.pkl instead of one")
    with archive.opened(members[0]) as member:
        return read_pickle(Stream(member, path))


def weights_of(reading: Reading) -> Weights:
    """Elements and bytes of the storages, each counted once however many tensors share it."""
    elements = 0
    bytes_by_dtype: dict[str, int] = {}
    seen: set[object] = set()
    for identity in reading.storages:
        if len(identity) < 5 or not isinstance(identity[2], str) or identity[2] in seen:
            continue
        seen.add(identity[2])
        kind, count = identity[1], identity[4]
        if isinstance(kind, Global) and type(count) is int and 0 <= count < 1 << 48:
            dtype, size = _STORAGES.get(kind.name.removesuffix("Storage"), ("unknown", 0))
            elements += count
            bytes_by_dtype[dtype] = bytes_by_dtype.get(dtype, 0) + count * size
    return Weights(elements, bytes_by_dtype)


def _pickled(path: Path, reading: Reading) -> Model:
    weights, verdict = weights_of(reading), judge(reading)
    packages, code = needed(reading, path)
    packages["torch"] = Package("torch", None, "reads the file")
    module = _module(reading.value)
    details = [("object", module or f"state {describe(reading.value)}")]
    if module:
        note = f"it is a pickled {module}: loading it needs that class, and torch.load(weights_only=True) refuses it"
    else:
        note = "it holds weights alone: write a Python file with load() that builds the network, and predict()"
    notes = [note, "TorchScript, torch.export and ONNX files hold their network and need no code"]
    if verdict.verdict == "dangerous":
        notes.insert(0, f"DANGEROUS: loading this file would use {listed(verdict.dangerous)}")
    elif verdict.incomplete:
        notes.insert(0, f"the pickle could not be read to its end: {verdict.incomplete}")
    return Model(
        path=path,
        format="torch",
        engine="torch",
        size=path.stat().st_size,
        dtype=dominant(weights.bytes_by_dtype),
        files=(path,),
        packages=tuple(packages[name] for name in sorted(packages)),
        details=(*details, ("parameters", counted(weights.parameters))),
        pickle=verdict,
        notes=tuple(notes),
        code=tuple(sorted(code.values())),
        needs_code=True,
    )


def _module(value: object) -> str | None:
    """The class of a whole pickled network; None for a dictionary of weights."""
    if isinstance(value, Instance) and isinstance(value.maker, Global):
        return str(value.maker)
    return None


def _script(path: Path, reading: Reading) -> Model:
    weights = weights_of(reading)
    name = _module(reading.value) or "unknown"
    plain = re.sub(r"^__torch__\.|\.?___torch_mangle_\d+", "", name)
    return Model(
        path=path,
        format="torchscript",
        engine="torch",
        size=path.stat().st_size,
        dtype=dominant(weights.bytes_by_dtype),
        files=(path,),
        packages=(Package("numpy", None, "carries tensors in and out"), Package("torch", None, "runs TorchScript")),
        details=(("network", plain), ("parameters", counted(weights.parameters))),
    )


def _exported(path: Path, archive: Archive) -> Model:
    names = list(_exported_weights(archive))
    return Model(
        path=path,
        format="pt2",
        engine="torch",
        size=path.stat().st_size,
        dtype=None,
        files=(path,),
        packages=(
            Package("numpy", None, "carries tensors in and out"),
            Package("torch", None, "runs exported programs"),
        ),
        details=(("kind", "torch.export program"), ("weights", str(len(names)))),
        notes=("an exported program runs with the PyTorch that made it; pin the same version",),
    )


def _exported_weights(archive: Archive) -> Iterator[str]:
    return (name for name in archive.names if re.search(r"/weights/weight_\d+$", name))


FORMAT = Format("PyTorch", (".pt", ".pth", ".pt2", ".ckpt", ".jit", ".torchscript"), _recognises, _read)
