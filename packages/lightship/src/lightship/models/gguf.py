"""GGUF files: llama.cpp's format. Metadata and the table of tensors are read, the weights are not.

The layout is that of ggml's docs/gguf.md: magic, version, counts, key-value pairs, tensor table, aligned data.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

from lightship.errors import ProjectError
from lightship.models.damage import damaged, readable
from lightship.models.language import Language, count
from lightship.models.model import Format, Model, Opening, Package, counted
from lightship.models.stream import Stream

MAGIC = b"GGUF"
MAX_ENTRIES = 65_536  # keys, and tensors; the largest models have some thousands
MAX_TEXTS = 5_000_000  # texts in arrays; a vocabulary of 256,000 comes with two or three arrays
MAX_KEPT = 256  # bytes of a text that is remembered
MAX_TEXT = 1 << 20  # bytes of any text; chat templates have some thousands

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9

# llama.cpp's `llama_ftype`: what general.file_type means.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
    39: "NVFP4", 40: "Q1_0",
}  # fmt: skip

# `ggml_type`: name, elements of a block, bytes of a block.
_TENSOR_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip

_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


@dataclass
class _Header:
    version: int
    order: str
    metadata: dict[str, object] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    tensors: int = 0
    parameters: int = 0
    bytes_by_type: dict[str, int] = field(default_factory=dict)
    texts: int = 0
    tied: bool = True


def _recognises(opening: Opening) -> bool:
    return opening.head.startswith(MAGIC)


def _read(path: Path) -> Model:
    files = _shards(path)
    header = _header(files[0])
    for shard in files[1:]:
        further = _header(shard)
        header.tensors += further.tensors
        header.tied = header.tied and further.tied
        header.parameters += further.parameters
        for name, size in further.bytes_by_type.items():
            header.bytes_by_type[name] = header.bytes_by_type.get(name, 0) + size
    return Model(
        path=files[0],  # llama.cpp finds the other parts by the name of the first
        format="gguf",
        engine="llamacpp",
        size=sum(file.stat().st_size for file in files),
        dtype=_quantisation(header),
        files=tuple(files),
        packages=(
            Package("jinja2", None, "renders the chat template"),
            Package("xllamacpp", None, "runs GGUF models"),
        ),
        details=tuple(_details(header)),
        notes=_notes(header),
        language=_language(header),
    )


def _shards(path: Path) -> list[Path]:
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    files = [path.with_name(f"{match[1]}-{number:05}-of-{match[3]}.gguf") for number in range(1, int(match[3]) + 1)]
    missing = [file.name for file in files[:1000] if not file.is_file()]
    if missing or path not in files:
        raise ProjectError(
            f"{path} is one of {match[3]} parts, and parts are missing: {', '.join(missing[:5]) or path.name}.",
            hint=f"Put all parts into {path.parent}.",
        )
    return files


def _header(path: Path) -> _Header:
    with readable(path), path.open("rb", buffering=0) as file:
        stream = Stream.of_file(file, path)
        if stream.read(4) != MAGIC:
            raise damaged(path, "it does not start with GGUF")
        raw = stream.read(4)
        order = "<" if 0 < int.from_bytes(raw, "little") < 1 << 16 else ">"
        header = _Header(int.from_bytes(raw, "little" if order == "<" else "big"), order)
        if header.version not in (2, 3):
            raise ProjectError(
                f"{path} is GGUF of version {header.version}; versions 2 and 3 can be read.",
                hint="Convert the model again with a current llama.cpp.",
            )
        tensors, keys = _number(stream, header, "Q"), _number(stream, header, "Q")
        if tensors > MAX_ENTRIES or keys > MAX_ENTRIES:
            raise damaged(path, f"it claims {tensors:,} tensors and {keys:,} keys")
        for _ in range(keys):
            key = _text(stream, header)
            value = _value(stream, header, _number(stream, header, "I"), key)
            if value is not None:
                header.metadata[key] = value
        _tensor_table(stream, header, tensors)
    return header


def _number(stream: Stream, header: _Header, code: str) -> int:
    return stream.number(struct.Struct(header.order + code))


def _text(stream: Stream, header: _Header) -> str:
    size = _number(stream, header, "Q")
    if size > MAX_TEXT:
        raise damaged(stream.path, f"a text at byte {stream.position} claims to be {size:,} bytes long")
    if size > MAX_KEPT:
        stream.skip(size)
        return ""
    return stream.read(size).decode("utf-8", "replace")


def _value(stream: Stream, header: _Header, kind: int, key: str) -> object:
    """A value, or None where it is of no interest (an array, whose length alone is noted)."""
    if kind == _TEXT:
        return _text(stream, header)
    if kind in _SCALARS:
        layout = struct.Struct(header.order + _SCALARS[kind])
        (value,) = layout.unpack(stream.read(layout.size))
        return value if isinstance(value, int | float | bool) else None
    if kind != _ARRAY:
        raise damaged(stream.path, f"the key {key[:80]!r} has a value of the unknown type {kind}")
    element, count = _number(stream, header, "I"), _number(stream, header, "Q")
    header.lengths[key] = count
    if element in _SCALARS:
        stream.skip(count * struct.calcsize("<" + _SCALARS[element]))
    elif element == _TEXT:
        header.texts += count
        if header.texts > MAX_TEXTS:
            raise damaged(stream.path, f"its arrays claim {header.texts:,} texts")
        for _ in range(count):
            stream.skip(_number(stream, header, "Q"))
    else:
        raise damaged(stream.path, f"the array {key[:80]!r} has elements of the type {element}")
    return None


def _tensor_table(stream: Stream, header: _Header, count: int) -> None:
    """Names, shapes and places of the tensors; all of them must lie inside of the file."""
    end = 0
    for _ in range(count):
        name = _text(stream, header)
        dimensions = _number(stream, header, "I")
        if dimensions > 4:
            raise damaged(stream.path, f"the tensor {name!r} claims {dimensions} dimensions")
        elements = 1
        for _ in range(dimensions):
            elements = min(elements * _number(stream, header, "Q"), 1 << 62)
        kind, offset = _number(stream, header, "I"), _number(stream, header, "Q")
        type_name, block, block_size = _TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
        size = elements // block * block_size
        header.tensors += 1
        header.tied = header.tied and name != "output.weight"
        header.parameters += elements
        header.bytes_by_type[type_name] = header.bytes_by_type.get(type_name, 0) + size
        end = max(end, offset + size)
    alignment = header.metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise damaged(stream.path, f"its alignment is {alignment}")
    start = -(-stream.position // alignment) * alignment
    total = stream.position + (stream.remaining or 0)
    if start + end > total:
        raise damaged(stream.path, f"it has {total:,} bytes, but its tensors reach to byte {start + end:,}")


def _quantisation(header: _Header) -> str | None:
    stated = _FILE_TYPES.get(_integer(header, "general.file_type") or -1)
    if _integer(header, "general.file_type") == 0:
        stated = _FILE_TYPES[0]
    sizes = header.bytes_by_type
    return stated or (max(sorted(sizes), key=sizes.__getitem__) if sizes else None)


def _integer(header: _Header, key: str) -> int | None:
    value = header.metadata.get(key)
    return value if type(value) is int else None


def _details(header: _Header) -> list[tuple[str, str]]:
    architecture = str(header.metadata.get("general.architecture", "unknown"))
    facts = [
        ("architecture", architecture),
        ("name", header.metadata.get("general.name")),
        ("quantisation", _quantisation(header)),
        ("parameters", counted(header.parameters)),
        ("context", _integer(header, f"{architecture}.context_length")),
        ("tokenizer", header.metadata.get("tokenizer.ggml.model")),
        ("vocabulary", header.lengths.get("tokenizer.ggml.tokens")),
        ("chat template", "yes" if "tokenizer.chat_template" in header.metadata else None),
        ("tensors", header.tensors),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _language(header: _Header) -> Language | None:
    """The sizes of the model; None where the file lacks one, or has a number of heads for each layer."""
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        return None

    def number(name: str) -> int | None:
        return count(header.metadata.get(f"{architecture}.{name}"))

    layers, heads, hidden = number("block_count"), number("attention.head_count"), number("embedding_length")
    if layers is None or heads is None or hidden is None:
        return None
    head = number("attention.key_length") or hidden // heads
    return Language(
        architecture=architecture,
        layers=layers,
        kv_heads=number("attention.head_count_kv") or heads,
        head_size=head,
        value_size=number("attention.value_length") or head,
        context=number("context_length"),
        vocabulary=count(header.lengths.get("tokenizer.ggml.tokens")) or number("vocab_size") or 0,
        hidden=hidden,
        parameters=header.parameters,
        tied=header.tied,
        quantisation=_quantisation(header),
    )


def _notes(header: _Header) -> tuple[str, ...]:
    if "tokenizer.ggml.model" not in header.metadata:
        return ("it has no tokenizer inside, so that it cannot answer text by itself",)
    return ()


FORMAT = Format("GGUF", (".gguf",), _recognises, _read)
