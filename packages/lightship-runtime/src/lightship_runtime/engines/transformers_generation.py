"""Language models through transformers' own `generate()`: any architecture that it knows, on CPU and GPU.

The reference for the other engines: slower, and one text at a time, in the order in which they were asked for. A
folder is what `save_pretrained()` writes, with safetensors weights; pickled ones and Python files need `trust`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, ClassVar

from lightship_runtime.engines.engine import Fork, ModelSource
from lightship_runtime.engines.quantized import quantized, settle
from lightship_runtime.engines.transformers import TransformersEngine, check_folder
from lightship_runtime.errors import StartError
from lightship_runtime.generation.bounds import fitting, tokens_to_write
from lightship_runtime.generation.detokenizing import TextStream
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece, TokenLogprob
from lightship_runtime.generation.templates import folder_template
from lightship_runtime.payload.call import RequestError

DEFAULT_CONTEXT = 2048  # tokens, for models that do not say how far their positions reach
_LOGPROBS = 20  # as many as OpenAI's API can ask for
_SEEDS = 1 << 63  # of PyTorch's generators


@dataclass(frozen=True)
class _Job:
    request: GenerationRequest
    prompt: list[int]
    most: int
    reader: Handover


class TransformersGenerationEngine(GenerationEngine):
    """One model, and the thread that it writes in."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "torch", "transformers", "jinja2")
    environment: ClassVar[Mapping[str, str]] = TransformersEngine.environment
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
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.to(self._device).eval().requires_grad_(requires_grad=False)
        settle(source, self._model)
        self._template = folder_template(source.path)
        own = getattr(self._model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT
        self.context = min(own, source.model.context or own)
        self.chats = self._template is not None
        self.tools = self._template is not None and self._template.tools
        ends = self._model.generation_config.eos_token_id
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._ends = frozenset(ends if isinstance(ends, (list, tuple)) else () if ends is None else (ends,))
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.writing = 0
        self._thread = threading.Thread(target=self._run, name="generate", daemon=True)
        self._thread.start()

    @classmethod
    def load(cls, source: ModelSource) -> TransformersGenerationEngine:
        return cls(source)

    def prompt_tokens(self, request: GenerationRequest) -> int:
        return len(self._tokens(request))

    def generate(self, request: GenerationRequest) -> Iterator[Piece | Finish]:
        if request.response_format != "text":
            raise RequestError(
                "This model keeps to no format.", param="response_format", code="unsupported_parameter"
            )
        prompt = self._tokens(request)
        most = tokens_to_write(request, len(prompt), self.context)
        reader = Handover()
        self._jobs.put(_Job(request, prompt, most, reader))
        yield from reader.read()

    def close(self) -> None:
        """End the thread when what it has been asked for is written."""
        self._jobs.put(None)
        self._thread.join()

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

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.reader.cancelled:
                continue
            self.writing = 1
            try:
                self._write(job)
            except Exception as error:  # whoever waits for the text is told
                job.reader.fail(error)
            finally:
                self.writing = 0

    def _write(self, job: _Job) -> None:
        import torch

        request = job.request
        if request.seed is None:
            torch.seed()  # whoever came before may have set one
        else:
            torch.manual_seed(request.seed % _SEEDS)
        text = _Text(self, job)
        watch = self._model.register_forward_hook(text.see) if request.logprobs is not None else None
        try:
            with torch.inference_mode():
                prompt = torch.tensor([job.prompt], device=self._device)
                self._model.generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    streamer=text,
                    stopping_criteria=[text.stopped],
                    max_new_tokens=job.most,
                    pad_token_id=min(self._ends, default=0),  # of one text nothing is padded: only to keep it quiet
                    **self._sampling(request),
                )
        finally:
            if watch is not None:
                watch.remove()
        text.finish()

    def _sampling(self, request: GenerationRequest) -> dict[str, Any]:
        """What is asked for, in the library's words; what is not said is as the model's own configuration has it."""
        options: dict[str, Any] = {}
        if request.repetition_penalty is not None:
            options["repetition_penalty"] = request.repetition_penalty
        if request.temperature == 0:
            return {**options, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        asked = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
        asked = {name: value for name, value in asked.items() if value is not None}
        return {**options, **asked, "do_sample": True} if asked else options


class _Text:
    """What `generate()` calls a streamer and a stopping criterion: it hands over tokens, and stops when asked to."""

    def __init__(self, engine: TransformersGenerationEngine, job: _Job) -> None:
        self._job = job
        self._ends = engine._ends
        self._decode = engine._tokenizer.decode
        self._stream = TextStream(lambda tokens: str(self._decode(tokens, skip_special_tokens=True)))
        self._prompt = True
        self._written = 0
        self._ended = False
        self._logits: Any = None

    def put(self, tokens: Any) -> None:
        """A token of the text; the prompt comes first, whole."""
        if self._prompt:
            self._prompt = False
            return
        token = int(tokens.flatten()[0])
        if token in self._ends:
            self._ended = True
            return
        self._written += 1
        logprobs = None if self._logits is None else (self._logprob(token),)
        self._job.reader.put(Piece(self._stream.feed(token), 1, logprobs))

    def end(self) -> None:
        """The library's word for the end of a stream: `finish` says why."""

    def stopped(self, tokens: Any, _scores: Any, **_more: Any) -> Any:
        """Whether to stop, for each text: asked after each token."""
        import torch

        return torch.full((tokens.shape[0],), self._job.reader.cancelled, device=tokens.device, dtype=torch.bool)

    def see(self, _model: Any, _given: Any, output: Any) -> None:
        """Keep the logits of the next token, of the model itself: before temperature and penalties."""
        self._logits = output.logits[0, -1]

    def finish(self) -> None:
        """Tell the end."""
        if rest := self._stream.rest():
            self._job.reader.put(Piece(rest, 0))
        self._job.reader.put(Finish("stop" if self._ended else "length", len(self._job.prompt), self._written))

    def _logprob(self, token: int) -> TokenLogprob:
        import torch

        row = torch.log_softmax(self._logits.float(), dim=-1)
        best = torch.topk(row, self._job.request.logprobs or 0)
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return TokenLogprob(
            self._decode([token]), float(row[token]), tuple((self._decode([one]), value) for one, value in top)
        )
