"""ONNX files: the graph's inputs, outputs and operators, and the files beside it that keep its weights."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lightship.errors import ProjectError
from lightship.models.damage import damaged, readable
from lightship.models.model import Format, Model, Opening, Package, counted, dominant
from lightship.models.onnx_contents import Contents, read_contents

_HEAD_FIELDS = (1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26)  # of ModelProto
# Operator domains that ONNX Runtime has built in.
_BUILT_IN = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"})
_EXTENSIONS = "ai.onnx.contrib"


def _recognises(opening: Opening) -> bool:
    """ONNX has no magic number: it starts with field 1, a small version number, and fields that a model has."""
    head = opening.head
    if len(head) < 4 or head[0] != 0x08 or not 1 <= head[1] <= 30 or head[2] >> 3 not in _HEAD_FIELDS:
        return False
    return opening.path.suffix.lower() == ".onnx" or _is_whole(opening.path)


def _is_whole(path: Path) -> bool:
    try:
        contents = read_contents(path)
    except ProjectError:
        return False
    return contents.has_graph and bool(contents.opsets)


def _read(path: Path) -> Model:
    contents = read_contents(path)
    if contents.ir_version is None or not contents.has_graph or not contents.opsets:
        raise damaged(path, "it lacks an ONNX graph, or the operator set that it is written in")
    files = (path, *_external_files(path, contents.external))
    return Model(
        path=path,
        format="onnx",
        engine="onnxruntime",
        size=sum(file.stat().st_size for file in files),
        dtype=dominant(contents.bytes_by_dtype),
        files=tuple(sorted(files)),
        packages=tuple(_packages(contents)),
        details=tuple(_details(contents)),
        notes=tuple(_notes(contents)),
        inputs=tuple(tensor for tensor in contents.inputs if hash(tensor.name) not in contents.initializers),
        outputs=tuple(contents.outputs),
    )


def _external_files(path: Path, locations: set[str]) -> list[Path]:
    files = []
    for location in sorted(locations):
        relative = PurePosixPath(location)
        if not location or relative.is_absolute() or ".." in relative.parts or "\0" in location or "\\" in location:
            raise damaged(
                path, f"its external data lies at {location!r}, outside of its folder", hint="Export the model again."
            )
        file = path.parent / relative
        with readable(path):
            exists = file.is_file()
        if not exists:
            raise ProjectError(
                f"{path} keeps weights in {location!r}, which is not beside it.",
                hint=f"Put {location} into {path.parent}, or export the model as a single file.",
            )
        files.append(file)
    return files


def _packages(contents: Contents) -> list[Package]:
    packages = [Package("onnxruntime", None, "runs ONNX models")]
    if _EXTENSIONS in contents.opsets:
        packages.append(Package("onnxruntime-extensions", None, f"brings the operators of {_EXTENSIONS}"))
    return packages


def _details(contents: Contents) -> list[tuple[str, str]]:
    opsets = [f"{domain or 'ai.onnx'} {version}" for domain, version in sorted(contents.opsets.items())[:10]]
    details = [("opset", ", ".join(opsets)), ("IR version", str(contents.ir_version))]
    if contents.producer:
        details.append(("made by", f"{contents.producer} {contents.producer_version}".strip()))
    details.append(("nodes", str(contents.nodes)))
    details.append(("parameters", counted(contents.parameters)))
    return details


def _notes(contents: Contents) -> list[str]:
    foreign = sorted(set(contents.opsets) - _BUILT_IN - {_EXTENSIONS})
    foreign = [domain for domain in foreign if not domain.startswith("com.microsoft.")]
    if foreign:
        return [f"it uses operators of {', '.join(foreign[:5])}, which ONNX Runtime has only with a custom library"]
    return []


FORMAT = Format("ONNX", (".onnx",), _recognises, _read)
