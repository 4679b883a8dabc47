"""Which of a repository's GGUF files: the quantisation that most people take, unless bits or memory speak against it.

Repositories of GGUF files have one model many times, each with other bits, which is in the file's name:
`name-Q4_K_M.gguf`, or in parts `name-Q8_0-00001-of-00003.gguf`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lightship.errors import ProjectError
from lightship.hub.file import HubFile
from lightship.quantities import human_size

Bits = Literal["4bit", "8bit", "none"]

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_TYPE = re.compile(
    r"(?:^|[./_-])((?:I?Q|TQ)\d(?:_(?:K|[01]|XXS|XS|S|M|NL))?(?:_(?:XL|L|M|S|\d_\d))?|MXFP4|NVFP4|BF16|F16|F32)(?=[./_-]|$)",
    re.IGNORECASE,
)
# What lies beside a model without being one: projectors of images, matrices of importance, drafts.
_BESIDE = re.compile(r"(?:^|[._/-])(?:mmproj|imatrix|draft)", re.IGNORECASE)
_WANTED: dict[Bits, int] = {"4bit": 4, "8bit": 8, "none": 16}
_FULL = {"BF16": 16, "F16": 16, "F32": 32, "MXFP4": 4, "NVFP4": 4}
# Among those of as many bits, the best first: K-quants keep what matters in more bits, M is their middle way.
_KINDS = ("K_M", "K_L", "K_XL", "K_S", "XS", "NL", "1", "0", "BF16", "F16", "F32")
_ROOM = 0.8  # of the memory: the rest is for texts and libraries; the plan counts exactly
_MOST_NAMED = 12


@dataclass(frozen=True)
class Quantised:
    """One form of the model, in one file or in parts; `name` is such as Q4_K_M, else that of the file."""

    name: str
    bits: int
    parts: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.parts)

    def __str__(self) -> str:
        return f"{self.name} ({human_size(self.size)})"


def forms(files: Sequence[HubFile]) -> list[Quantised]:
    """The forms that a repository has, without those of which parts are missing, the smallest first."""
    stems: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        if file.path.endswith(".gguf") and not _BESIDE.search(file.path):
            stems.setdefault(_SHARD.sub("", file.path.removesuffix(".gguf")), []).append(file)
    found = []
    for stem, parts in stems.items():
        match = _SHARD.search(parts[0].path.removesuffix(".gguf"))
        if match is None or len(parts) == int(match[2]):
            told = next(iter(_TYPE.findall(stem)[-1:]), "").upper()
            found.append(Quantised(told or parts[0].path, _bits(told), tuple(parts)))
    return sorted(found, key=lambda form: (form.size, form.name))


def whole(files: Sequence[HubFile], file: HubFile) -> tuple[HubFile, ...]:
    """All parts of the model that a file is one of; the file alone where it is all of it, or no GGUF file.

    Raises: `ProjectError` where the repository lacks parts.
    """
    stem = file.path.removesuffix(".gguf")
    match = _SHARD.search(stem) if file.path.endswith(".gguf") else None
    if match is None:
        return (file,)
    prefix, known = stem[: match.start()], {each.path: each for each in files}
    names = [f"{prefix}-{number:05}-of-{match[2]}.gguf" for number in range(1, min(int(match[2]), len(files)) + 1)]
    parts = tuple(known[name] for name in names if name in known)
    if len(parts) < int(match[2]) or file not in parts:
        raise ProjectError(f"{file.path} is one of {int(match[2])} parts, of which the repository has {len(parts)}.")
    return parts


def choose_form(found: Sequence[Quantised], bits: Bits | None, memory: int | None) -> tuple[Quantised, str]:
    """One of several, and why.

    Args:
        bits: How many are asked for; None for the usual four.
        memory: Bytes of the machine that it is for, where that is known.

    Raises: `ProjectError` where none fits the memory.
    """
    best = min(found, key=lambda form: _rank(form, bits))
    why = {
        None: "the usual one: a quarter of half precision, and hardly worse",
        "4bit": "nearest to 4 bits",
        "8bit": "nearest to 8 bits",
        "none": "nearest to the model as it was",
    }[bits]
    if memory is None or best.size <= memory * _ROOM:
        return best, why if best.bits == _WANTED[bits or "4bit"] or bits else "nearest to the usual 4 bits"
    fitting = [form for form in found if form.size <= memory * _ROOM]
    if not fitting:
        raise ProjectError(
            f"None of {len(found)} forms fits {human_size(memory)} of memory: the smallest is {found[0]}.",
            hint="Raise [target] memory, or take a smaller model.",
        )
    chosen = min(fitting, key=lambda form: _rank(form, bits))
    return chosen, f"{best} is too much for {human_size(memory)} of memory, which texts need a part of"


def named(found: Sequence[Quantised], chosen: Quantised) -> str:
    """The others, for people."""
    others = [str(form) for form in found if form is not chosen]
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    return ", ".join(others[:_MOST_NAMED]) + more


def _bits(name: str) -> int:
    if quantised := re.match(r"[IT]?Q(\d)", name):
        return int(quantised[1])
    return _FULL.get(name, _FULL["F16"])  # a file that says nothing is as the model was


def _rank(form: Quantised, bits: Bits | None) -> tuple[int, int, int, int]:
    """The nearest bits first, more rather than fewer; then by kind, then the smaller."""
    wanted = _WANTED[bits or "4bit"]
    away = form.bits - wanted
    kind = next((place for place, each in enumerate(_KINDS) if form.name.endswith(each)), len(_KINDS))
    return (away < 0, abs(away), kind, form.size)
