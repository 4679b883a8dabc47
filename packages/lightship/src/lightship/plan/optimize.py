"""Whether the model is served as it is, or converted to ONNX first."""

from __future__ import annotations

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

SERVED_WITH = ("numpy", "onnxruntime")
GENERATED_WITH = ("jinja2", "numpy", "onnxruntime", "onnxruntime-genai")
# What ONNX Runtime GenAI's model builder imports, and does not declare.
_BUILDERS = ("onnx", "onnx-ir", "onnxruntime-genai>=0.18", "safetensors", "sentencepiece", "torch", "transformers")
_TORCH = "PyTorch is needed for it: name an index of its builds for CPUs, or gigabytes of CUDA's libraries come too"
_GGUF_READERS = ("accelerate", "gguf")
_ENGINES = {"sklearn": "scikit-learn", "xgboost": "XGBoost", "lightgbm": "LightGBM"}  # whose models are converted
# protobuf 7 takes no booleans for numbers, which skl2onnx 1.20 gives it for histogram gradient boosting.
_CONVERTERS = ("skl2onnx>=1.18", "onnxmltools>=1.13", "onnx", "protobuf<7")


@dataclass(frozen=True)
class Conversion:
    """How the model becomes ONNX.

    Attributes:
        path: Of the converted file or folder, relative to the app's folder.
        requirements: The user's, in which the model is loaded and converted; the image itself needs `served_with`.
        converters: What is installed beside them.
        tolerance: How far answers may differ.
        served_with: What the image itself needs, in the versions that the conversion is made with.
        quantize: Of a language model: to how many bits; None where the model becomes a plain ONNX graph.
    """

    path: str
    requirements: RequirementsSource
    converters: tuple[str, ...]
    tolerance: float
    served_with: tuple[str, ...] = SERVED_WITH
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
    if model is not None and generation is not None and generation.quantize.value and not table.onnx:
        return _language_model(project, model, requirements, generation.quantize.value)
    engine = (project.settings.model.engine or model.engine) if model else None
    if not table.onnx:
        return Decision("optimize", None, "nothing", _why_not(model, engine))
    if model is None or engine not in _ENGINES:
        what = f"a {model.format} model, run by {engine}" if model else "an application of your own"
        raise ProjectError(
            f"[optimize] onnx = true converts models of scikit-learn, XGBoost and LightGBM; this is {what}.",
            hint="Leave [optimize] onnx out.",
        )
    path = PurePosixPath(model.path.relative_to(project.directory).as_posix())
    conversion = Conversion(
        str(path.with_suffix(".onnx")),
        requirements,
        (*_CONVERTERS, *SERVED_WITH),
        table.tolerance,
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
    path = PurePosixPath(model.path.relative_to(project.directory).as_posix())
    name = path.stem if model.format == "gguf" else path.name
    served = str(path.with_name(f"{name or project.name}-onnx"))
    more = _GGUF_READERS if model.format == "gguf" else ()
    if model.format == "gguf" and requirements.kind == "list":  # what llama.cpp would need
        requirements = RequirementsSource("list", requirements.path, GENERATED_WITH)
    conversion = Conversion(served, requirements, (*_BUILDERS, *more, *GENERATED_WITH), 0.0, GENERATED_WITH, quantize)
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


def _why_not(model: Model | None, engine: str | None) -> str:
    if model is not None and engine in _ENGINES:
        return f"[optimize] onnx = true would serve it with ONNX Runtime alone, without {_ENGINES[engine]}"
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
    lines = [f"without {', '.join(conversion.dropped)}"] if conversion.dropped else []
    if conversion.added:
        lines.append(f"instead {', '.join(conversion.added)}")
    lines.append(f"wheels: {human_size(packed)} less to pull, {human_size(unpacked)} less unpacked")
    return lines
