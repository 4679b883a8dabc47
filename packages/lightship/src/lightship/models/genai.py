"""Folders of ONNX Runtime GenAI: genai_config.json, the graph with its weights beside it, a tokenizer."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from lightship.errors import ProjectError
from lightship.models import onnx
from lightship.models.damage import damaged, readable
from lightship.models.documents import decode, read_bounded
from lightship.models.language import Language, count
from lightship.models.model import Model, Package, counted, dominant
from lightship.models.onnx_contents import read_contents

CONFIG = "genai_config.json"
PACKAGES = (
    Package("jinja2", None, "renders the chat template"),
    Package("numpy", None, "holds tokens"),
    Package("onnxruntime-genai", None, "runs the model", minimum="0.18"),
)
_MAX_CONFIG = 4 << 20  # bytes
_MAX_ENTRIES = 5000  # files of a folder
_SMALL = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".vocab", ".bpe"})


class _Decoder(msgspec.Struct):
    filename: str
    num_hidden_layers: Any = None
    num_key_value_heads: Any = None
    num_attention_heads: Any = None
    head_size: Any = None
    hidden_size: Any = None


class _Model(msgspec.Struct):
    decoder: _Decoder
    type: str = ""
    context_length: Any = None
    vocab_size: Any = None


class _Config(msgspec.Struct):
    model: _Model


def is_folder(path: Path) -> bool:
    """Whether a folder has a configuration of ONNX Runtime GenAI, and the graph that it names."""
    if not (path / CONFIG).is_file():
        return False
    try:
        return (path / _config(path).model.decoder.filename).is_file()
    except ProjectError:
        return False


def read_folder(path: Path) -> Model:
    """The model of such a folder. Raises `ProjectError` where a part is missing or damaged; the message names it."""
    told = _config(path).model
    graph = path / told.decoder.filename
    if not graph.is_file():
        raise ProjectError(
            f"{path} lacks {told.decoder.filename}, which its {CONFIG} names.",
            hint="Copy the whole folder, as the model builder of ONNX Runtime GenAI wrote it.",
        )
    weights = onnx.FORMAT.read(graph)
    with readable(path):
        entries = sorted(path.iterdir())[:_MAX_ENTRIES]
        small = [file for file in entries if file.suffix in _SMALL and file.is_file()]
        files = tuple(sorted({*weights.files, *small}))
        size = sum(file.stat().st_size for file in files)
    contents = read_contents(graph)
    language = _language(told, contents.parameters)
    names = {file.name for file in small}
    facts = [
        ("architecture", told.type),
        ("task", "text generation"),
        ("context", language.context if language else None),
        ("numbers in the graph", counted(contents.parameters)),
        ("tokenizer", "tokenizer.json" if "tokenizer.json" in names else None),
        ("chat template", "yes" if "chat_template.jinja" in names else None),
    ]
    return Model(
        path=path,
        format="onnx-genai",
        engine="onnxruntime-genai",
        size=size,
        dtype=dominant(contents.bytes_by_dtype),
        files=files,
        packages=PACKAGES,
        details=tuple((name, str(value)) for name, value in facts if value),
        language=language,
    )


def _config(path: Path) -> _Config:
    file = path / CONFIG
    config = decode(read_bounded(file, _MAX_CONFIG), _Config, file)
    name = config.model.decoder.filename
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts or "\0" in name or "\\" in name:
        raise damaged(file, f"it names the graph {name[:80]!r}, which lies outside of its folder")
    return config


def _language(told: _Model, parameters: int) -> Language | None:
    decoder = told.decoder
    layers, heads = count(decoder.num_hidden_layers, 4096), count(decoder.num_attention_heads)
    head = count(decoder.head_size)
    if layers is None or head is None or heads is None:
        return None
    return Language(
        architecture=told.type,
        layers=layers,
        kv_heads=count(decoder.num_key_value_heads) or heads,
        head_size=head,
        value_size=head,
        context=count(told.context_length),
        vocabulary=count(told.vocab_size) or 0,
        hidden=count(decoder.hidden_size) or heads * head,
        parameters=parameters,
    )
