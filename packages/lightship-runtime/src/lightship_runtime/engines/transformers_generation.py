"""Language models through transformers: any architecture that it knows, on CPU and GPU.

The reference for the other engines. Families whose texts can share steps write `SLOTS` texts at once; of all others
`generate()` writes one text after the other, in the order in which they were asked for. A folder is what
`save_pretrained()` writes, with safetensors weights; pickled ones and Python files need `trust`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lightship_runtime.engines.engine import Fork, ModelSource
from lightship_runtime.engines.quantized import quantized, settle
from lightship_runtime.engines.transformers import TransformersEngine, check_folder
from lightship_runtime.engines.transformers_alone import AloneThread
from lightship_runtime.engines.transformers_families import SLOTS, writes_together
from lightship_runtime.engines.transformers_linear import quicken
from lightship_runtime.engines.transformers_text import Job
from lightship_runtime.engines.transformers_together import TogetherThread
from lightship_runtime.errors import StartError
from lightship_runtime.generation.bounds import fitting, tokens_to_write
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import GenerationRequest
from lightship_runtime.generation.templates import folder_template
from lightship_runtime.payload.call import RequestError

DEFAULT_CONTEXT = 2048  # tokens, for models that do not say how far their positions reach
_LOGPROBS = 20  # as many as OpenAI's API can ask for


class TransformersGenerationEngine(GenerationEngine):
    """One model, and the thread that it writes in."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "torch", "transformers", "jinja2")
    # A step is hundreds of products with a wait after each. Threads that spin for long take the core from whoever
    # shall work on it: beside other work two of them wrote a tenth of what one wrote alone. Those that sleep at once
    # lose a fifth on cores of their own (SmolLM2-135M, 8 texts: 82 tokens/s, 105 with these rounds, 129 with
    # libgomp's own).
    environment: ClassVar[Mapping[str, str]] = {**TransformersEngine.environment, "GOMP_SPINCOUNT": "2000"}
    fork: ClassVar[Fork] = "never"
    most_logprobs = _LOGPROBS

    def __init__(self, source: ModelSource) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        check_folder(source)
        torch.set_num_threads(source.threads)
        trust = source.model.trust
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                source.path, local_files_only=True, trust_remote_code=trust
            )
            self._model = AutoModelForCausalLM.from_pretrained(
                source.path,
                local_files_only=True,
                trust_remote_code=trust,
                use_safetensors=None if trust else True,
                dtype="auto",
                **quantized(source),
            )
        except OSError as error:
            raise StartError(
                f"{source.model.path} is not a whole model: {str(error)[:300]}",
                hint="Save tokenizer and model into the folder with save_pretrained().",
            ) from error
        self._model.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(requires_grad=False)
        settle(source, self._model)
        quicken(self._model)
        self._template = folder_template(source.path)
        own = getattr(self._model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT
        self.context = min(own, source.model.context or own)
        self.chats = self._template is not None
        self.tools = self._template is not None and self._template.tools
        ends = self._model.generation_config.eos_token_id
        ends = self._tokenizer.eos_token_id if ends is None else ends
        ending = frozenset(ends if isinstance(ends, (list, tuple)) else () if ends is None else (ends,))
        self._thread: TogetherThread | AloneThread
        if writes_together(self._model):
            self._thread = TogetherThread(self._model, self._tokenizer, ending, self.context)
        else:
            self._thread = AloneThread(self._model, self._tokenizer, ending)

    @classmethod
    def load(cls, source: ModelSource) -> TransformersGenerationEngine:
        return cls(source)

    @property
    def slots(self) -> int:
        return SLOTS if isinstance(self._thread, TogetherThread) else 1

    @property
    def writing(self) -> int:
        """Texts on their way."""
        return self._thread.writing

    def prompt_tokens(self, request: GenerationRequest) -> int:
        return len(self._tokens(request))

    def begin(self, request: GenerationRequest) -> Handover:
        if request.response_format != "text":
            raise RequestError(
                "This model keeps to no format.", param="response_format", code="unsupported_parameter"
            )
        prompt = self._tokens(request)
        most = tokens_to_write(request, len(prompt), self.context)
        job = Job(request, prompt, most, Handover())
        self._thread.begin(job)
        return job.reader

    def close(self) -> None:
        """End the thread."""
        self._thread.close()

    def set_threads(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)

    def _tokens(self, request: GenerationRequest) -> list[int]:
        if request.prompt is not None:
            return list(self._tokenizer(fitting(request.prompt, self.context))["input_ids"])
        if self._template is None:
            raise RequestError("This model has no chat template.", param="messages")
        text = self._template.render(request.messages or (), request.tools)  # with its special tokens
        return list(self._tokenizer(fitting(text, self.context), add_special_tokens=False)["input_ids"])
