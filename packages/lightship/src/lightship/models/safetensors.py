"""safetensors files: a JSON header that names tensors, and their bytes. Only the header is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lightship.models.damage import damaged, readable
from lightship.models.documents import decode
from lightship.models.model import Format, Model, Opening, Package, counted, dominant
from lightship.models.stream import U64, Stream

# The reference implementation allows 100 MB; the headers of the largest published shards have a few MiB.
MAX_HEADER = 32 << 20
MAX_TENSORS = 150_000  # each has four colons in the header

# Bits of an element, by the format's own names.
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip
_FAMILIES = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint", "C": "complex"}
# What the metadata's `format` says when the weights are not PyTorch's ("pt").
_OTHER_LIBRARIES = frozenset({"np", "tf", "flax", "jax", "mlx"})


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Header:
    """What a header tells: parameters, bytes by dtype, and the library that wrote it, where it says so."""

    tensors: int
    parameters: int
    bytes_by_dtype: Mapping[str, int]
    written_for: str | None


def read_header(path: Path) -> Header:
    """The header of a safetensors file, checked against the file's size.

    Raises:
        ProjectError: It is no such file, or cut off, or its tensors do not fill the file exactly.
    """
    with readable(path), path.open("rb", buffering=0) as file:
        stream = Stream.of_file(file, path)
        size = stream.number(U64)
        remaining = stream.remaining or 0
        if size > min(remaining, MAX_HEADER):
            raise damaged(path, f"its header claims {size:,} bytes, in a file of {remaining + 8:,}")
        pieces = [stream.read(min(1 << 20, size - start)) for start in range(0, size, 1 << 20)]
    text = b"".join(pieces)
    if text.count(b":") > 4 * MAX_TENSORS:
        raise damaged(path, f"its header has more than {MAX_TENSORS:,} entries")
    entries = decode(text, dict[str, msgspec.Raw], path, "its header")
    metadata = entries.pop("__metadata__", None)
    about = decode(bytes(metadata), dict[str, str], path, "its metadata") if metadata is not None else {}
    parameters, end = 0, 0
    bytes_by_dtype: dict[str, int] = {}
    spans = []
    for name, raw in entries.items():
        tensor = decode(bytes(raw), _Tensor, path, f"the entry of {name[:80]!r}")
        elements, length = _extent(tensor, name, path)
        parameters += elements
        dtype = dtype_name(tensor.dtype)
        bytes_by_dtype[dtype] = bytes_by_dtype.get(dtype, 0) + length
        spans.append(tensor.data_offsets)
    for start, stop in sorted(spans):
        if start != end:
            raise damaged(path, f"its tensors leave a gap or overlap at byte {end} of the data")
        end = stop
    if end != remaining - size:
        raise damaged(path, f"its tensors need {end:,} bytes, but {remaining - size:,} are there")
    return Header(len(entries), parameters, bytes_by_dtype, about.get("format"))


def _extent(tensor: _Tensor, name: str, path: Path) -> tuple[int, int]:
    """Elements and bytes of a tensor, which must agree with each other."""
    elements = 1
    for dimension in tensor.shape:
        if dimension < 0 or elements > 1 << 62:
            raise damaged(path, f"the tensor {name[:80]!r} has an impossible shape")
        elements *= dimension
    start, stop = tensor.data_offsets
    bits = _BITS.get(tensor.dtype)
    if start < 0 or stop < start or (bits is not None and elements * bits != 8 * (stop - start)):
        raise damaged(path, f"the tensor {name[:80]!r} has another size than its shape says")
    return elements, stop - start


def dtype_name(code: str) -> str:
    """The usual name of one of the format's types: BF16 is bfloat16, F8_E4M3 is float8_e4m3."""
    match = re.fullmatch(r"(BF|[FIUC])(\d+)(_\w+)?", code)
    return f"{_FAMILIES[match[1]]}{match[2]}{(match[3] or '').lower()}" if match else code.lower()


def _recognises(opening: Opening) -> bool:
    if len(opening.head) < 10:
        return False
    size = int.from_bytes(opening.head[:8], "little")
    return opening.head[8:9] == b"{" and 2 <= size <= opening.size - 8 and opening.head[9:10] in (b'"', b"}", b" ")


def _read(path: Path) -> Model:
    header = read_header(path)
    packages = [Package("safetensors", None, "reads the file")]
    if header.written_for not in _OTHER_LIBRARIES:
        packages.insert(0, Package("numpy", None, "carries tensors in and out"))
        packages.append(Package("torch", None, "holds the weights while the model runs"))
    return Model(
        path=path,
        format="safetensors",
        engine="torch",
        size=path.stat().st_size,
        dtype=dominant(dict(header.bytes_by_dtype)),
        files=(path,),
        packages=tuple(packages),
        details=(("tensors", str(header.tensors)), ("parameters", counted(header.parameters))),
        notes=(
            "it holds weights alone: put Hugging Face's config.json beside it, or name the class or function that "
            'builds its network ([model] network = "net.py:Net"), or write a Python file with load() and predict()',
        ),
        needs_code=True,
    )


FORMAT = Format("safetensors", (".safetensors",), _recognises, _read)
