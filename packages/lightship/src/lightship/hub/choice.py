"""Which files of a repository are wanted to serve its model: one form of the weights, and no program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightship.errors import ProjectError
from lightship.hub.file import HubFile
from lightship.hub.gguf_choice import Bits, Quantised, choose_form, forms, named, whole
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
class Choice:
    """Files to fetch, and the folder of the repository that is the model's own; "" is all of it.

    `reason` is what was chosen of several forms and why, with the others; empty where there was nothing to choose.
    """

    files: tuple[HubFile, ...]
    root: str = ""
    reason: str = ""


def choose(
    files: Sequence[HubFile],
    reference: HubReference,
    *,
    trust: bool,
    bits: Bits | None = None,
    memory: int | None = None,
) -> Choice:
    """The files to fetch.

    Args:
        bits: Of GGUF files in several forms, how many bits a weight shall have; None for the usual four.
        memory: Bytes of the machine that it is for, which such a file has to fit.
        trust: Take pickled weights where there are no others, and Python files: both run code when they are loaded.

    Raises: `ProjectError` where the repository has no weights that can be served, or several to choose from, or none
        that fits the memory.
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
    if not weights and (found := forms(files)):
        return _gguf(files, found, bits, memory)
    if not weights:
        raise ProjectError(f"{reference} has no weights that can be served.", hint=_hint(files, reference))
    return Choice(tuple(sorted({*described, *weights}, key=lambda file: file.path)))


def _single(files: Sequence[HubFile], reference: HubReference) -> Choice:
    found = [file for file in files if file.path == reference.file]
    if not found:
        raise ProjectError(f"{reference}: there is no such file.", hint=_hint(files, reference))
    return _with_licences(files, whole(files, found[0]))


def _gguf(files: Sequence[HubFile], found: Sequence[Quantised], bits: Bits | None, memory: int | None) -> Choice:
    """One of the forms; they are the same model, so that somebody has to choose."""
    chosen, why = choose_form(found, bits, memory)
    reason = f"{chosen}: {why}; there are {named(found, chosen)} as well" if len(found) > 1 else ""
    return replace(_with_licences(files, chosen.parts), reason=reason)


def _with_licences(files: Sequence[HubFile], weights: Sequence[HubFile]) -> Choice:
    root = weights[0].path.rpartition("/")[0]
    return Choice((*weights, *(file for file in files if not root and _LICENCES.match(file.path))), root)


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
    single = sorted(file.path for file in files if file.path.endswith((".gguf", ".onnx")))
    if single:
        more = f", or one of {len(single) - 1} others" if len(single) > 1 else ""
        return f"Name one of its files: hf://{reference.repository}/{single[0]}{more}."
    return "Lightship serves repositories with config.json and safetensors, GGUF and ONNX files."
