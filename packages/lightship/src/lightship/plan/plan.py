"""The plan: every decision about an image, made before anything is fetched or built. Reads files, writes none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightship.errors import ProjectError
from lightship.lock.requirements import RequirementsSource, pins, required
from lightship.models import Model, compare, detect
from lightship.plan.accelerator import Accelerator, decide_accelerator
from lightship.plan.base import BaseChoice, decide_base
from lightship.plan.decision import Decision
from lightship.plan.generation import FIRST_TEXT, Generation, decide_generation, writes_text
from lightship.plan.optimize import Conversion, decide_optimize
from lightship.plan.platforms import decide_platforms
from lightship.plan.requirements import decide_requirements
from lightship.plan.server import Server, decide_server
from lightship.plan.vllm import without_pinned_by_vllm
from lightship.plan.weights import Delivery, decide_weights
from lightship.project import Project
from lightship.project.context import Context, ContextFile, context_file, read_context
from lightship_runtime.golden import Golden

USER = "65532:65532"  # distroless's nonroot, which Kubernetes' runAsNonRoot accepts because it is a number


@dataclass(frozen=True)
class Plan:
    """What will be built, and why. `warnings` are what the user should know before anything is built."""

    project: Project
    model: Model | None
    weights_files: tuple[ContextFile, ...]
    app_files: tuple[ContextFile, ...]
    platforms: Decision[tuple[str, ...]]
    base: Decision[BaseChoice]
    server: Decision[Server]
    generation: Generation | None
    requirements: Decision[RequirementsSource]
    optimize: Decision[Conversion | None]
    accelerator: Decision[Accelerator]
    weights: Decision[Delivery]
    layers: Decision[str]
    compression: Decision[str]
    pruning: Decision[str]
    user: Decision[str]
    proof: Decision[Path | Golden | None]
    warnings: tuple[str, ...]

    @property
    def golden(self) -> Path | None:
        """The project's own golden request and answer, which the image has too."""
        return self.proof.value if isinstance(self.proof.value, Path) else None

    def decisions(self) -> Iterator[Decision[object]]:
        """Every decision, in the order in which a person would ask."""
        if self.model is not None:
            yield _model_decision(self.model, self.project)
        if self.generation is not None:
            yield from (self.generation.engine, self.generation.quantize, self.generation.memory)
        yield from (self.optimize, self.server, self.platforms, self.base, self.requirements, self.accelerator)
        yield from (self.weights, self.layers, self.compression, self.pruning, self.user, self.proof)


def make_plan(project: Project) -> Plan:
    """Decide everything. Raises ProjectError where the project contradicts itself."""
    model = detect(project.model) if project.model is not None else None
    if model is not None:
        _check_model(model, project)
    requirements = decide_requirements(project, model)
    generation = None
    if model is not None and writes_text(project, model):
        needed = required(requirements.value)
        accelerator = decide_accelerator(needed, project.settings.target.gpu)
        generation = decide_generation(project, model, accelerator, needed)
        if generation.engine.value == "vllm":
            requirements = without_pinned_by_vllm(requirements)
    optimize = decide_optimize(project, model, requirements.value, generation)
    context = _context(project, model, converted=optimize.value is not None)
    of_model = {file for file in model.files if file not in model.code} if model else set()
    weights = tuple(file for file in context.files if file.is_weights or file.source in of_model)
    pinned = pins(requirements.value)
    if optimize.value is not None:
        requirements = _of_conversion(optimize.value)
    return Plan(
        project=project,
        model=model,
        weights_files=weights,
        app_files=tuple(file for file in context.files if file not in weights),
        platforms=decide_platforms(project),
        base=decide_base(project, compiles=generation is not None and generation.compiles),
        server=decide_server(project, model, optimize.value, generation),
        generation=generation,
        requirements=requirements,
        optimize=optimize,
        accelerator=decide_accelerator(required(requirements.value), project.settings.target.gpu),
        weights=decide_weights(weights),
        layers=Decision(
            "layers",
            "by change",
            "base · environment · heavy wheels · small wheels · runtime · weights · app",
            "what changes together lies together, the most stable first: a code change sends the last layer only",
        ),
        compression=_decide_compression(project),
        pruning=_decide_pruning(project, compiles=generation is not None and generation.compiles),
        user=Decision("user", USER, f"{USER}, files owned by root", "non-root by number, which Kubernetes can check"),
        proof=_decide_proof(project, generation),
        warnings=_warnings(model, pinned, context),
    )


def _check_model(model: Model, project: Project) -> None:
    """Refuse what could not be served, or should not be."""
    settings = project.settings.model
    engine = settings.engine or model.engine
    if engine == "transformers" and not (settings.task or model.task):
        told = dict(model.details)
        raise ProjectError(
            f"{model.path} is for {told.get('task') or told.get('architecture') or 'something'}, which "
            "Lightship's own server does not answer.",
            hint="Serve it with a Python file that has load() and predict(), or with your own application. A "
            "transformers folder can be told its pipeline: [model] task.",
        )
    if settings.network is not None and not (project.directory / settings.network.partition(":")[0]).is_file():
        raise ProjectError(
            f"[model] network names {settings.network}, but there is no such file in {project.directory}.",
            hint='Write it as "file.py:name", relative to the project\'s folder.',
        )
    if model.needs_code and not settings.engine and not (model.format == "safetensors" and settings.network):
        raise ProjectError(
            f"{model.path} cannot be served by itself: {model.notes[0]}",
            hint="Write a serve.py with load() and predict(), or a FastAPI application, that builds the model.",
        )
    verdict = model.pickle
    if verdict is not None and verdict.verdict == "dangerous" and not project.settings.model.trust:
        raise ProjectError(
            f"{model.path} is a pickle that would call {', '.join(verdict.dangerous)} when it is loaded.",
            hint="Do not load it unless you made it yourself and know why; then set [model] trust = true.",
        )


def _context(project: Project, model: Model | None, *, converted: bool) -> Context:
    """A whole server takes its folder along; a model takes itself, and what `[image] include` names.

    A model that is converted stays outside, and the file that it becomes is not there yet.
    """
    image = project.settings.image
    everything = read_context(project.directory, include=image.include, exclude=image.exclude)
    if model is None or model.format == "python" or project.settings.model.network is not None:
        return everything
    files = () if converted else dict.fromkeys((*model.files, *model.code))
    own = tuple(context_file(file.relative_to(project.directory).as_posix(), file) for file in files)
    taken = {file.path for file in own}
    if image.include:
        chosen = read_context(project.directory, exclude=("**", *(f"!{pattern}" for pattern in image.include)))
        own += tuple(file for file in chosen.files if file.path not in taken)
    return Context(tuple(sorted(own, key=lambda file: file.path)))


def _of_conversion(conversion: Conversion) -> Decision[RequirementsSource]:
    """What is left of the requirements: the versions are those that the conversion is made and compared with."""
    return Decision(
        "requirements",
        conversion.image_requirements,
        ", ".join(conversion.served_with),
        f"what a converted model needs; {conversion.requirements.title} is needed to convert it only",
    )


def _model_decision(model: Model, project: Project) -> Decision[object]:
    path = model.path.relative_to(project.directory) if model.path != project.directory else Path()
    facts = dict(model.details)
    shown = " · ".join([model.format, *list(facts.values())[:1]])
    evidence = tuple(f"{name}: {value}" for name, value in model.details)
    saved = tuple(f"saved with {package.name} {package.version}" for package in model.packages if package.version)
    return Decision("model", model.path, shown, f"{path} was read without being loaded or run", (*evidence, *saved))


def _decide_compression(project: Project) -> Decision[str]:
    chosen = project.settings.image.compression
    reasons = {
        "zstd": "smaller than gzip, several times as fast to write and unpack; weights only where samples shrink",
        "gzip": "[image] compression asks for it; read by every engine and tool",
        "estargz": "[image] compression asks for it; read by every engine, and lazily by the stargz snapshotter",
        "none": "[image] compression asks for it; the quickest to build and to unpack on a fast network",
    }
    return Decision("compression", chosen, chosen, reasons[chosen])


def _decide_pruning(project: Project, *, compiles: bool) -> Decision[str]:
    level = project.settings.image.prune
    if compiles and level == "safe":
        reason = "the server compiles for the GPU that it finds, with headers and tools of the wheels"
        return Decision("pruning", "none", "none", reason)
    if level in ("used", "traced") and project.golden is None:
        raise ProjectError(
            f'[image] prune = "{level}" leaves out what the golden request does not use, and there is none.',
            hint='Write a golden.json with {"request": ..., "response": ...} (or name such a file: [test] golden), '
            'or take [image] prune = "safe".',
        )
    reasons = {
        "safe": "tests, stubs, headers and static libraries of the wheels are never opened by a server",
        "used": "as safe, and distributions of which the golden request opens nothing",
        "traced": "as safe, and every file of the wheels that the golden request does not open",
        "none": "[image] prune asks for it",
    }
    keep = project.settings.image.keep
    evidence = (f"kept in any case: {', '.join(keep)}",) if keep else ()
    return Decision("pruning", level, level, reasons[level], evidence)


def _decide_proof(project: Project, generation: Generation | None) -> Decision[Path | Golden | None]:
    golden = project.golden
    if golden is not None:
        shown = f"starts and gives the answer of {golden.name}"
        reason = "a golden request is the only proof that the model works in the image"
        return Decision("proof", golden, shown, reason)
    if generation is not None:
        return Decision(
            "proof",
            FIRST_TEXT,
            "starts and writes a text",
            "there is no golden.json; texts of language models are compared by their form, or with what the model "
            "wrote when it was converted",
        )
    reason = "there is no golden.json; the image is proven to start and to be healthy only"
    return Decision("proof", None, "starts and is healthy", reason)


def _warnings(model: Model | None, pinned: dict[str, str], context: Context) -> tuple[str, ...]:
    warnings = [*compare(model, pinned), *model.notes] if model else []
    if context.secrets:
        warnings.append(f"left out because they hold secrets by their name: {', '.join(context.secrets)}")
    return tuple(warnings)
