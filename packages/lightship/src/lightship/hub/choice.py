"""Which files of a repository are wanted to serve its model: one form of the weights, and no program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lightship.errors import ProjectError
from lightship.hub.reference import HubReference, is_plain

# Descriptions, vocabularies and templates, in the repository's folder or one below (sentence-transformers has its
# pooling in 1_Pooling/). Of the rest, pictures and training logs are for people.
_DESCRIPTIONS = re.compile(r"^(?:[^/]+/)?[^/]+\.(?:json|txt|model|jinja|spm|bpe|tiktoken)$")
_LICENCES = re.compile(r"^(?:LICEN[CS]E|NOTICE|COPYING)[^/]*$", re.IGNORECASE)
_SHARD = re.compile(r"^(?:model|pytorch_model)(?:-\d{5}-of-\d{5})?\.(?:safetensors|bin)$")
_FOLDERS_OF_OTHERS = re.compile(
    r"^(?:openvino|coreml|onnx|original|metal|flax|gguf)/"
)  # further forms of the weights
_GENAI = "genai_config.json"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        path: In the repository.
        size: In bytes, as the hub says.
        sha256: As the hub says; None for small files, which it keeps in git.
    """

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Choice:
    """Files to fetch, and the folder of the repository that is the model's own; "" is all of it."""

    files: tuple[HubFile, ...]
    root: str = ""


def choose(files: Sequence[HubFile], reference: HubReference, *, trust: bool) -> Choice:
    """The files to fetch.

    Args:
        trust: Take pickled weights where there are no others, and Python files: both run code when they are loaded.

    Raises: `ProjectError` where the repository has no weights that can be served, or several to choose from.
    """
    for file in files:
        if not is_plain(file.path):
            raise ProjectError(f"{reference}: the hub names a file {file.path!r}, outside of the repository.")
    if reference.file is not None:
        return _single(files, reference)
    if genai := [file.path for file in files if file.path.rpartition("/")[2] == _GENAI]:
        return _genai_folder(files, genai, reference)
    own = [file for file in files if not _FOLDERS_OF_OTHERS.match(file.path)]
    described = [file for file in own if _DESCRIPTIONS.match(file.path) or _LICENCES.match(file.path)]
    if trust:
        described += [file for file in own if file.path.endswith(".py")]
    shards = [file for file in own if _SHARD.match(file.path)]
    weights = [file for file in shards if file.path.endswith(".safetensors")]
    pickled = [file for file in shards if file.path.endswith(".bin")]
    if not weights and pickled:
        if not trust:
            raise ProjectError(
                f"{reference} has its weights as pickles only ({pickled[0].path}), which can run any code.",
                hint="Look for a repository or revision with safetensors; or add --trust.",
            )
        weights = pickled
    if not weights:
        raise ProjectError(f"{reference} has no weights that can be served.", hint=_hint(files, reference))
    return Choice(tuple(sorted({*described, *weights}, key=lambda file: file.path)))


def _single(files: Sequence[HubFile], reference: HubReference) -> Choice:
    found = [file for file in files if file.path == reference.file]
    if not found:
        raise ProjectError(f"{reference}: there is no such file.", hint=_hint(files, reference))
    root = found[0].path.rpartition("/")[0]
    return Choice((*found, *(file for file in files if not root and _LICENCES.match(file.path))), root)


def _genai_folder(files: Sequence[HubFile], configs: Sequence[str], reference: HubReference) -> Choice:
    folders = sorted(path.rpartition("/")[0] for path in configs)
    if len(folders) > 1:
        named = ", ".join(folders)
        raise ProjectError(
            f"{reference} has the model in {len(folders)} forms for ONNX Runtime GenAI: {named}.",
            hint="Take a repository with one, or its original in safetensors.",
        )
    prefix = f"{folders[0]}/" if folders[0] else ""
    return Choice(tuple(file for file in files if file.path.startswith(prefix)), folders[0])


def _hint(files: Sequence[HubFile], reference: HubReference) -> str:
    ggufs = sorted(file.path for file in files if file.path.endswith((".gguf", ".onnx")))
    if ggufs:
        more = f", or one of {len(ggufs) - 1} others" if len(ggufs) > 1 else ""
        return f"Name one of its files: hf://{reference.repository}/{ggufs[0]}{more}."
    return "Lightship serves repositories with config.json and safetensors, GGUF and ONNX files."
