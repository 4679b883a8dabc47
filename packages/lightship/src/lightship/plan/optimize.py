"""Whether the model is served as it is, or converted to ONNX first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from lightship.errors import ProjectError
from lightship.lock.file import LockedConversion, read_lock
from lightship.lock.requirements import RequirementsSource, pins, proposed_requirements
from lightship.models import Model
from lightship.plan.decision import Decision
from lightship.plan.generation import Generation
from lightship.plan.memory import Quantization
from lightship.project import Project
from lightship.quantities import human_size
from lightship_runtime.config import EngineName

# Whose models are converted, by engine.
_LIBRARIES = {
    "sklearn": "scikit-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "transformers": "transformers",
    "sentence-transformers": "sentence-transformers",
}
_MOST_NAMED = 8  # distributions in one line
_TASKS = ("text-classification", "token-classification", "feature-extraction")  # of transformers


@dataclass(frozen=True)
class _Way:
    """What converts a kind of models, and what serves them then.

    Attributes:
        engine: That of the converted model.
        served_with: What it needs in the image.
        converters: What is installed beside the user's requirements to convert it.
        without: What those require, and do without.
        asked: What both models are asked, for people.
        compared: What their answers are made of, for people.
    """

    engine: EngineName
    served_with: tuple[str, ...]
    converters: tuple[str, ...]
    without: tuple[str, ...]
    asked: str
    compared: str


_TABLES = _Way(
    "onnxruntime",
    ("numpy", "onnxruntime"),
    # protobuf 7 takes no booleans for numbers, which skl2onnx 1.20 gives it for histogram gradient boosting.
    ("skl2onnx>=1.18", "onnxmltools>=1.13", "onnx", "protobuf<7"),
    (),
    "rows",
    "numbers",
)
_TEXTS = _Way(
    "onnxruntime-text",
    ("numpy", "onnxruntime", "tokenizers"),
    ("torch>=2.6", "onnx", "onnxscript"),  # PyTorch's exporter without TorchScript, with any lengths of texts
    ("huggingface-hub",),  # tokenizers would fetch files with it, and works without
    "texts",
    "scores or vectors",
)
_WRITERS = _Way(
    "onnxruntime-genai",
    ("jinja2", "numpy", "onnxruntime", "onnxruntime-genai"),
    # What ONNX Runtime GenAI's model builder imports, and does not declare.
    ("onnx", "onnx-ir", "onnxruntime-genai>=0.18", "safetensors", "sentencepiece", "torch", "transformers"),
    (),
    "prompts",
    "texts",
)
_TORCH = "PyTorch is needed for it: name an index of its builds for CPUs, or gigabytes of CUDA's libraries come too"
_GGUF_READERS = ("accelerate", "gguf")


@dataclass(frozen=True)
class Conversion:
    """How the model becomes ONNX.

    Attributes:
        path: Of the converted file or folder, relative to the app's folder.
        engine: What runs it.
        requirements: The user's, in which the model is loaded and converted; the image itself needs `served_with`.
        served_with: The distributions that the image has, in the versions that the conversion was compared with.
        without: What those require, and the image does without.
        converters: What is installed beside the requirements to convert.
        tolerance: How far answers may differ.
        asked: What both models are asked, for people.
        compared: What their answers are made of, for people.
        quantize: Of a language model: to how many bits; None where the model becomes a plain ONNX graph.
    """

    path: str
    engine: EngineName
    requirements: RequirementsSource
    served_with: tuple[str, ...]
    without: tuple[str, ...]
    converters: tuple[str, ...]
    tolerance: float
    asked: str
    compared: str
    quantize: Quantization | None = None

    @property
    def image_requirements(self) -> RequirementsSource:
        """What the image has installed: found where the user's own requirements are."""
        from lightship.lock.index import index_options

        options = (line.text for line in index_options(self.requirements))
        return proposed_requirements([*options, *self.served_with], self.requirements.directory)


def decide_optimize(
    project: Project, model: Model | None, requirements: RequirementsSource, generation: Generation | None = None
) -> Decision[Conversion | None]:
    """As `[optimize]` says, and the engine of a language model.

    Raises `ProjectError` where there is nothing that could be converted.
    """
    table = project.settings.optimize
    if model is not None and generation is not None and generation.converted_to and not table.onnx:
        return _language_model(project, model, requirements, generation.converted_to)
    engine = (project.settings.model.engine or model.engine) if model else None
    task = (project.settings.model.task or model.task) if model and engine == "transformers" else None
    if not table.onnx:
        return Decision("optimize", None, "nothing", _why_not(model, engine, task))
    if model is None or engine not in _LIBRARIES:
        what = f"a {model.format} model, run by {engine}" if model else "an application of your own"
        raise ProjectError(
            "[optimize] onnx = true converts models of scikit-learn, XGBoost and LightGBM, and encoders of texts of "
            f"transformers and sentence-transformers; this is {what}.",
            hint="Leave [optimize] onnx out.",
        )
    if engine == "transformers" and task not in _TASKS:
        raise ProjectError(
            f"[optimize] onnx = true converts models of transformers for {', '.join(_TASKS)}; this is for "
            f"{task or 'something else'}.",
            hint="Leave [optimize] onnx out.",
        )
    way = _TEXTS if engine in ("transformers", "sentence-transformers") else _TABLES
    path = PurePosixPath(model.path.relative_to(project.directory).as_posix())
    conversion = Conversion(
        _converted_path(path, folder=model.path.is_dir()),
        way.engine,
        requirements,
        way.served_with,
        way.without,
        (*way.converters, *way.served_with),
        table.tolerance,
        way.asked,
        way.compared,
    )
    return Decision(
        "optimize",
        conversion,
        f"{conversion.path}, converted from {path}",
        f"[optimize] onnx asks for it; taken only where its answers are the model's own, within {table.tolerance:g}",
        (f"loaded and converted in a sandbox, in the environment of {requirements.title}", *_gain(project)),
    )


def _language_model(
    project: Project, model: Model, requirements: RequirementsSource, quantize: Quantization
) -> Decision[Conversion | None]:
    way = _WRITERS
    path = PurePosixPath(model.path.relative_to(project.directory).as_posix())
    name = path.stem if model.format == "gguf" else path.name
    served = str(path.with_name(f"{name or project.name}-onnx"))
    more = _GGUF_READERS if model.format == "gguf" else ()
    if model.format == "gguf" and requirements.kind == "list":  # what llama.cpp would need
        requirements = RequirementsSource("list", requirements.path, way.served_with)
    conversion = Conversion(
        served,
        way.engine,
        requirements,
        way.served_with,
        way.without,
        (*way.converters, *more, *way.served_with),
        0.0,
        way.asked,
        way.compared,
        quantize,
    )
    return Decision(
        "optimize",
        conversion,
        f"{served}/, converted from {path}",
        "the engine takes graphs of ONNX; taken only where the converted model writes",
        (
            f"converted in a sandbox, in the environment of {requirements.title}",
            *(() if "+cpu" in pins(requirements).get("torch", "") else (_TORCH,)),
            *_gain(project),
        ),
    )


def _converted_path(path: PurePosixPath, *, folder: bool) -> str:
    """Beside the model. A folder's name may have dots that begin no suffix."""
    if folder:
        return f"{path}.onnx" if path.name else "model.onnx"  # the project's own folder has no name
    return str(path.with_suffix(".onnx"))


def _why_not(model: Model | None, engine: str | None, task: str | None) -> str:
    if model is not None and engine in _LIBRARIES and (engine != "transformers" or task in _TASKS):
        whose = "PyTorch" if engine in ("transformers", "sentence-transformers") else _LIBRARIES[engine]
        return f"[optimize] onnx = true would serve it with ONNX Runtime alone, without {whose}"
    return (
        "there is nothing that could be converted" if model is None else f"a model in {model.format} stays as it is"
    )


def _gain(project: Project) -> tuple[str, ...]:
    """What the image does without, where lightship.lock knows."""
    lock = read_lock(project.lock_path)
    if lock is None or lock.conversion is None:
        return ("how much smaller the image gets is known once it is locked: `lightship lock`",)
    return tuple(gain_of(lock.conversion))


def gain_of(conversion: LockedConversion) -> list[str]:
    """What a conversion saves, in sentences."""
    packed, unpacked = (
        sum(sizes[each] for sizes in conversion.dropped.values())
        - sum(sizes[each] for sizes in conversion.added.values())
        for each in (0, 1)
    )
    lines = [f"without {_named(conversion.dropped)}"] if conversion.dropped else []
    if conversion.added:
        lines.append(f"instead {_named(conversion.added)}")
    lines.append(f"wheels: {human_size(packed)} less to pull, {human_size(unpacked)} less unpacked")
    return lines


def _named(sizes: Mapping[str, tuple[int, int]]) -> str:
    """Distributions by name; of many the largest."""
    if len(sizes) <= _MOST_NAMED:
        return ", ".join(sizes)
    largest = sorted(sizes, key=lambda name: sizes[name][1], reverse=True)[: _MOST_NAMED - 1]
    return f"{', '.join(largest)} and {len(sizes) - len(largest)} more"
