"""Language models through ONNX Runtime GenAI: a folder with genai_config.json, as its model builder writes it.

The fastest engine for CPUs, and none of PyTorch is in the image. Telemetry is off: the library's own switch
would still let an event about the process out (its docs/Privacy.md), so that the variable that keeps all of it from
beginning is set before the import.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from lightship_runtime.engines.engine import ModelSource
from lightship_runtime.engines.genai_lanes import BATCH, BatchLane, GeneratorLane, Job, Lane, fits_engine
from lightship_runtime.engines.genai_thread import LaneThread
from lightship_runtime.errors import IntegrityError, StartError
from lightship_runtime.generation.bounds import fitting, tokens_to_write
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import GenerationRequest
from lightship_runtime.generation.schemas import guided_schema
from lightship_runtime.generation.templates import ChatTemplate, folder_template
from lightship_runtime.payload.call import RequestError

DEFAULT_CONTEXT = 4096  # tokens, where nobody says more: room for all of them is taken when a text begins
SLOTS = 8  # texts at once: two batches
_LOGPROBS = 20  # as many as OpenAI's API can ask for
_MAX_CONFIG = 4 << 20  # bytes
_SEEDS = 1 << 31  # the library's are C integers, and negative ones mean none


class OnnxGenAiEngine(GenerationEngine):
    """One model; `SLOTS` texts at once, in lanes that one thread steps."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "jinja2", "onnxruntime_genai")
    environment: ClassVar[Mapping[str, str]] = {"ORT_DISABLE_TELEMETRY": "1"}
    response_formats = frozenset(("json_object", "json_schema"))
    most_logprobs = _LOGPROBS

    def __init__(self, source: ModelSource) -> None:
        import onnxruntime_genai as genai

        genai.disable_telemetry_events()
        told = _checked(source)
        config = genai.Config(str(source.path))
        threads = {"intra_op_num_threads": source.threads}
        self._vocabulary = int(_part(told, "model").get("vocab_size", 0))
        # A static batch masks the padding token in prompts too (0.18), and many models pad with the token that ends
        # each message: so it is the last of the vocabulary, and a prompt that has it goes alone.
        self._padding = self._vocabulary - 1
        overlay: dict[str, Any] = {"decoder": {"session_options": threads}}
        if self._vocabulary:
            overlay["pad_token_id"] = self._padding
        config.overlay(json.dumps({"model": overlay}))
        self._model = genai.Model(config)
        self._tokenizer = genai.Tokenizer(self._model)
        self._bare = genai.Tokenizer(self._model)  # a template writes the special tokens by itself
        self._bare.update_options(add_special_tokens="false")
        self._encoding = threading.Lock()  # nowhere is it said that a tokenizer may be used by several threads
        self._template: ChatTemplate | None = folder_template(source.path)
        self._search = _part(told, "search")
        model = _part(told, "model")
        # Where positions are an input, those of a static batch have not been compared with those of single texts.
        positions = "position_ids" in _part(_part(model, "decoder"), "inputs")
        alone = positions or self._vocabulary < 1 or not fits_engine(self._model)
        self._together = 1 if alone else BATCH
        own = int(model.get("context_length", DEFAULT_CONTEXT))
        self.context = min(own, source.model.context or DEFAULT_CONTEXT)
        self.chats = self._template is not None
        self.tools = self._template is not None and self._template.tools
        self._lanes = LaneThread(self._lane, self._together, _refusal)

    @classmethod
    def load(cls, source: ModelSource) -> OnnxGenAiEngine:
        return cls(source)

    @property
    def slots(self) -> int:
        return SLOTS

    @property
    def writing(self) -> int:
        """Texts on their way."""
        return sum(len(lane.jobs) for lane in self._lanes.lanes)

    def prompt_tokens(self, request: GenerationRequest) -> int:
        return len(self._tokens(request))

    def begin(self, request: GenerationRequest) -> Handover:
        prompt = self._tokens(request)
        most = tokens_to_write(request, len(prompt), self.context)
        job = Job(
            prompt=prompt,
            most=most,
            options=self._options(request),
            seed=None if request.seed is None else request.seed % _SEEDS,
            logprobs=request.logprobs,
            padded=self._padding in prompt,
            guidance=_guidance(request),
            stream=self._tokenizer.create_stream(),
            reader=Handover(),
        )
        self._lanes.begin(job)
        return job.reader

    def close(self) -> None:
        """End the thread, before the library is unloaded."""
        self._lanes.close()

    def _lane(self, jobs: Sequence[Job]) -> Lane:
        if len(jobs) > 1 or (self._together > 1 and jobs[0].simple):
            return BatchLane(self._model, jobs)
        return GeneratorLane(self._model, self._tokenizer, jobs[0])

    def _tokens(self, request: GenerationRequest) -> Any:
        tokenizer, text = self._tokenizer, request.prompt
        if text is None:
            if self._template is None:
                raise RequestError("This model has no chat template.", param="messages")
            tokenizer, text = self._bare, self._template.render(request.messages or (), request.tools)
        with self._encoding:
            return tokenizer.encode(fitting(text, self.context))

    def _options(self, request: GenerationRequest) -> dict[str, Any]:
        """What is asked for, in the library's words; what is not said is as the model's own configuration has it."""
        asked = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": None if request.top_k is None else min(request.top_k, self._vocabulary or request.top_k),
        }
        options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if request.temperature == 0 or request.top_k == 1:  # an Engine refuses to be told both 1 and a temperature
            options = {"do_sample": False}
        elif options:
            options["do_sample"] = True
        else:
            options["do_sample"] = bool(self._search.get("do_sample", False))
        if request.repetition_penalty is not None:
            options["repetition_penalty"] = request.repetition_penalty
        return options


def _guidance(request: GenerationRequest) -> tuple[str, str] | None:
    if request.response_format == "text":
        return None
    return "json_schema", guided_schema(request)


def _refusal(error: Exception, job: Job) -> Exception:
    """What to tell for a text that failed alone: with a schema of the client's it is the schema."""
    if job.guidance is None:
        return error
    return RequestError(
        "The schema cannot be followed: it is none, is too large, or has a form that is not known.",
        param="response_format",
    )


def _checked(source: ModelSource) -> dict[str, Any]:
    """genai_config.json, where it names no code and no file outside of the folder."""
    path = source.path / "genai_config.json"
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(_MAX_CONFIG))
    except OSError as error:
        raise source.unreadable(error) from error
    except (ValueError, RecursionError) as error:
        raise StartError(
            f"{source.model.path}/genai_config.json is no JSON.", hint="Convert the model again."
        ) from error
    if not isinstance(told, dict):
        raise StartError(f"{source.model.path}/genai_config.json is no object.", hint="Convert the model again.")
    if not source.model.trust:
        for name, value in _texts(told):
            if "library" in name and value:
                raise IntegrityError(
                    f"{source.model.path}/genai_config.json names a library of native code ({name}), which would run "
                    "when the model is loaded.",
                    hint="Convert the model again without it; or trust the model.",
                )
            if "file" in name and (value.startswith("/") or ".." in value.split("/")):
                raise IntegrityError(
                    f"{source.model.path}/genai_config.json names a file outside of its folder ({name}).",
                    hint="Put the model's files into one folder.",
                )
    return told


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a configuration, with the key that it is under."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, name)


def _part(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = told.get(name)
    return part if isinstance(part, dict) else {}
