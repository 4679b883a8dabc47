"""Hugging Face folders: a config.json, weights in one file or in shards, a tokenizer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from packaging.version import InvalidVersion, Version

from lightship.errors import ProjectError
from lightship.models.damage import damaged, readable
from lightship.models.documents import decode, read_bounded, read_document
from lightship.models.language import Language, described, writes_text
from lightship.models.model import Model, Package, PickleVerdict, counted, dominant
from lightship.models.pickle_verdict import judge
from lightship.models.safetensors import read_header
from lightship.models.torch import read_weights, weights_of
from lightship_runtime.config import EngineName

CONFIG = "config.json"
MODULES = "modules.json"  # sentence-transformers
MAX_CONFIG = 4 << 20  # bytes
_MAX_ENTRIES = 5000  # files of a folder

# Weights in the order in which transformers looks for them: the index of shards, the single file.
_SAFE = ("model.safetensors.index.json", "model.safetensors")
_PICKLED = ("pytorch_model.bin.index.json", "pytorch_model.bin")
# What belongs to a model besides its weights: configurations, vocabularies, templates.
_SMALL = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".vocab", ".bpe"})
_NOT_NEEDED = re.compile(r"(readme|trainer_state|training_args|.*\.index\.json$)", re.IGNORECASE)
# The same weights again, for other frameworks or in other files.
_HEAVY = frozenset({".bin", ".safetensors", ".h5", ".msgpack", ".ot", ".onnx", ".pt", ".pth", ".gguf", ".tflite"})

# What quantised weights need besides transformers, by `quant_method`.
_QUANTISATION = {
    "aqlm": ("aqlm",),
    "awq": ("autoawq",),
    "bitsandbytes": ("accelerate", "bitsandbytes"),
    "compressed-tensors": ("compressed-tensors",),
    "gptq": ("gptqmodel", "optimum"),
    "hqq": ("hqq",),
    "mxfp4": ("kernels",),
    "quanto": ("optimum-quanto",),
    "torchao": ("torchao",),
}
# The pipelines of transformers by what an architecture's name ends with. Text that is generated is no pipeline's.
_PIPELINES = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForImageClassification": "image-classification",
    "Model": "feature-extraction",
}
_GENERATE = ("LMHeadModel", "DoubleHeadsModel", "DecoderModel")
_TASKS = {
    "LMHeadModel": "text generation",
    "DecoderModel": "text generation from an input",
    "ForCausalLM": "text generation",
    "ForConditionalGeneration": "text generation from an input",
    "ForSequenceClassification": "text classification",
    "ForTokenClassification": "token classification",
    "ForQuestionAnswering": "question answering",
    "ForMaskedLM": "masked words",
    "ForImageClassification": "image classification",
    "ForObjectDetection": "object detection",
    "ForCTC": "speech recognition",
    "Model": "embeddings",
}


class Config(msgspec.Struct):
    """The keys of config.json that matter here; `Any` where files disagree about the type."""

    architectures: list[str] | None = None
    model_type: str | None = None
    torch_dtype: Any = None
    dtype: Any = None
    transformers_version: Any = None
    quantization_config: Any = None
    auto_map: Any = None
    max_position_embeddings: Any = None
    text_config: Any = None
    id2label: Any = None


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class _Module(msgspec.Struct):
    path: str


def is_folder(path: Path) -> bool:
    """Whether a folder has a config.json of a model, and weights beside it."""
    if not (path / CONFIG).is_file() or not any((path / name).is_file() for name in (*_SAFE, *_PICKLED)):
        return False
    try:
        config = decode(read_bounded(path / CONFIG, MAX_CONFIG), Config, path / CONFIG)
    except ProjectError:
        return False
    return bool(config.architectures or config.model_type)


def read_folder(path: Path) -> Model:
    """The model of a Hugging Face folder.

    Raises:
        ProjectError: A part is missing or damaged; the message names it.
    """
    with readable(path):
        config = decode(read_bounded(path / CONFIG, MAX_CONFIG), Config, path / CONFIG)
        weights = _weights(path)
        small = _small_files(path, config)
        left_out = sorted(
            file.name for file in path.iterdir() if file.suffix in _HEAVY and file.is_file() and file not in weights
        )
        files = tuple(sorted({*weights, *small}))
        size = sum(file.stat().st_size for file in files)
    parameters, bytes_by_dtype, verdict = _inspected(weights)
    names = {file.relative_to(path).as_posix() for file in files}
    notes = list(_notes(config, names, verdict))
    if left_out:
        notes.append(f"left out of the image, as the weights are there already: {', '.join(left_out[:5])}")
    return Model(
        path=path,
        format="huggingface",
        engine=_engine(config, names),
        size=size,
        dtype=dominant(bytes_by_dtype) or _stated_dtype(config),
        files=files,
        packages=tuple(_packages(config, names)),
        details=tuple(_details(config, names, parameters, weights)),
        pickle=verdict,
        notes=tuple(notes),
        code=tuple(file for file in files if file.suffix == ".py"),
        task=None if MODULES in names else _pipeline(config),
        language=_language(path, config, parameters),
    )


def _engine(config: Config, names: set[str]) -> EngineName:
    if MODULES in names:
        return "sentence-transformers"
    return "transformers-generation" if writes_text(config.architectures) else "transformers"


def _language(path: Path, config: Config, parameters: int) -> Language | None:
    architecture = writes_text(config.architectures)
    if architecture is None:
        return None
    facts = decode(read_bounded(path / CONFIG, MAX_CONFIG), dict[str, Any], path / CONFIG)
    return described(facts, architecture, parameters, _quantisation(config))


def _weights(path: Path) -> tuple[Path, ...]:
    for index, single in (_SAFE, _PICKLED):
        if (path / index).is_file():
            return (path / index, *_shards(path, index))
        if (path / single).is_file():
            return (path / single,)
    raise ProjectError(
        f"{path} has a {CONFIG} but no weights: neither {_SAFE[1]} nor {_PICKLED[1]}, nor shards of either.",
        hint="Download the whole folder. Weights of TensorFlow or Flax: convert them with save_pretrained() first.",
    )


def _shards(path: Path, index: str) -> list[Path]:
    names = sorted(set(read_document(path / index, _Index).weight_map.values()))
    for name in names:
        if name != Path(name).name or name in ("", ".", "..") or "\\" in name or "\0" in name:
            raise damaged(path / index, f"it names the shard {name!r}, which is no plain file name")
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise ProjectError(
            f"{path} lacks {len(missing)} of {len(names)} shards: {', '.join(missing[:5])}.",
            hint=f"Finish the download; {index} lists all of them.",
        )
    return [path / name for name in names]


def _small_files(path: Path, config: Config) -> list[Path]:
    """Configurations and vocabularies; Python files only where config.json refers to them."""
    suffixes = _SMALL | {".py"} if config.auto_map else _SMALL
    folders = [path, path / "additional_chat_templates"]
    if (path / MODULES).is_file():
        modules = decode(read_bounded(path / MODULES, MAX_CONFIG), list[_Module], path / MODULES)
        for module in modules[:50]:
            if module.path and module.path == Path(module.path).name and module.path not in (".", ".."):
                folders.append(path / module.path)
    found = []
    for folder in folders:
        if folder.is_dir():
            wanted = suffixes if folder == path else suffixes | {".bin", ".safetensors"}
            entries = sorted(folder.iterdir())[:_MAX_ENTRIES]
            found += [
                file
                for file in entries
                if file.suffix in wanted and not _NOT_NEEDED.match(file.name) and file.is_file()
            ]
    return found


def _inspected(weights: tuple[Path, ...]) -> tuple[int, dict[str, int], PickleVerdict | None]:
    """Parameters, bytes by dtype and, where the weights are pickles, the gravest verdict over all of them."""
    parameters = 0
    bytes_by_dtype: dict[str, int] = {}
    verdicts: list[PickleVerdict] = []
    for file in weights:
        if file.suffix == ".safetensors":
            header = read_header(file)
            counts, sizes = header.parameters, dict(header.bytes_by_dtype)
        elif file.suffix == ".bin":
            reading = read_weights(file)
            verdicts.append(judge(reading))
            storages = weights_of(reading)
            counts, sizes = storages.parameters, storages.bytes_by_dtype
        else:
            continue
        parameters += counts
        for dtype, size in sizes.items():
            bytes_by_dtype[dtype] = bytes_by_dtype.get(dtype, 0) + size
    gravity = ("safe", "unknown", "dangerous")
    worst = max(verdicts, key=lambda verdict: gravity.index(verdict.verdict), default=None)
    return parameters, bytes_by_dtype, worst


def _stated_dtype(config: Config) -> str | None:
    for stated in (config.torch_dtype, config.dtype):
        if isinstance(stated, str):
            return stated.removeprefix("torch.")
    return None


def _quantisation(config: Config) -> str | None:
    settings = config.quantization_config
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    return method if isinstance(method, str) else None


def _packages(config: Config, names: set[str]) -> list[Package]:
    saved = config.transformers_version
    minimum = _release(saved) if isinstance(saved, str) else None
    reason = f"the model was saved with transformers {saved}" if minimum else "runs the model"
    packages = [
        *([Package("jinja2", None, "renders the chat template")] if writes_text(config.architectures) else []),
        Package("torch", None, "runs the model"),
        Package("transformers", None, reason, minimum=minimum),
    ]
    if any(name.endswith(".safetensors") for name in names):
        packages.append(Package("safetensors", None, "reads the weights"))
    if "tokenizer.json" not in names and names & {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"}:
        packages.append(Package("sentencepiece", None, "reads the tokenizer"))
    if any(name.endswith(".tiktoken") for name in names):
        packages.append(Package("tiktoken", None, "reads the tokenizer"))
    if MODULES in names:
        packages.append(Package("sentence-transformers", None, f"the folder has its {MODULES}"))
    if names & {"preprocessor_config.json", "image_processor_config.json"} and "speech" not in _task(config):
        packages.append(Package("pillow", None, "reads images for the model"))
    method = _quantisation(config)
    packages += [
        Package(name, None, f"the weights are quantised: {method}") for name in _QUANTISATION.get(method or "", ())
    ]
    return sorted(packages, key=lambda package: package.name)


def _release(version: str) -> str | None:
    try:
        return Version(version).base_version
    except InvalidVersion:
        return None


def _task(config: Config) -> str:
    for architecture in config.architectures or ():
        for ending, task in _TASKS.items():
            if architecture.endswith(ending):
                return task
    return ""


def _pipeline(config: Config) -> str | None:
    """The first pipeline that is made for one of the architectures."""
    for architecture in config.architectures or ():
        if architecture.endswith(_GENERATE):
            return None
        for ending, pipeline in _PIPELINES.items():
            if architecture.endswith(ending):
                return pipeline
    return None


def _details(config: Config, names: set[str], parameters: int, weights: tuple[Path, ...]) -> list[tuple[str, str]]:
    labels = len(config.id2label) if isinstance(config.id2label, dict) else None
    context = config.max_position_embeddings
    if context is None and isinstance(config.text_config, dict):
        context = config.text_config.get("max_position_embeddings")
    shards = sum(file.suffix != ".json" for file in weights)
    facts = [
        ("architecture", ", ".join((config.architectures or [])[:3]) or config.model_type),
        ("task", "sentence embeddings" if MODULES in names else _task(config)),
        ("parameters", counted(parameters)),
        ("quantisation", _quantisation(config)),
        ("context", context if type(context) is int else None),
        ("labels", labels),
        ("shards", shards if shards > 1 else None),
        ("tokenizer", _tokenizer(names)),
        ("generation", "generation_config.json" if "generation_config.json" in names else None),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _tokenizer(names: set[str]) -> str | None:
    wanted = (
        "tokenizer.json",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "vocab.json",
        "vocab.txt",
    )
    return next((name for name in wanted if name in names), None)


def _notes(config: Config, names: set[str], verdict: PickleVerdict | None) -> list[str]:
    notes = []
    if verdict is not None:
        notes.append(
            "the weights are pickles, which can run code when loaded: save them with safe_serialization=True"
        )
        if verdict.verdict == "dangerous":
            notes.insert(0, f"DANGEROUS: loading the weights would use {', '.join(verdict.dangerous[:5])}")
    if config.auto_map:
        notes.append("it brings Python code of its own, which runs only with trust_remote_code=True: read it first")
    if _tokenizer(names) is None and "text" in _task(config):
        notes.append("it has no tokenizer; without one it takes token numbers, not text")
    return notes
