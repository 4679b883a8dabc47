"""Language models through vLLM: the engine for GPUs, in this process with its core in one of its own.

vLLM batches by itself: whoever comes joins at the next step, and whoever leaves is out of it at the next. Its
scheduler and the model run in processes that it spawns; this one has its asynchronous front, on an event loop in a
thread. When the core is lost nothing can be written any more: the worker ends, and is replaced.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, ClassVar

from lightship_runtime.engines.engine import Fork, ModelSource
from lightship_runtime.engines.event_loop import EventLoop
from lightship_runtime.engines.transformers import check_folder
from lightship_runtime.engines.vllm_start import ENVIRONMENT, start
from lightship_runtime.generation.bounds import fitting, tokens_to_write
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece, TokenLogprob
from lightship_runtime.generation.schemas import guided_schema
from lightship_runtime.generation.templates import folder_template
from lightship_runtime.payload.call import RequestError

SLOTS = 64  # texts at once; vLLM itself takes 128 or more, by the size of the GPU
_LOGPROBS = 20  # vLLM's own bound (max_logprobs), and as many as OpenAI's API can ask for
_SEEDS = 1 << 63  # of PyTorch's generators; vLLM takes -1 for none
_WATCH = 0.5  # seconds between two looks whether the core is there


class _Reader(Handover):
    """A text whose end by its reader ends vLLM's work on it at once, also while it waits for its first step."""

    text: Future[Any] | None = None
    _cancelled = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self._cancelled = value
        if value and self.text is not None:
            self.text.cancel()  # one that has ended stays as it is


class VllmEngine(GenerationEngine):
    """One model behind vLLM's asynchronous engine."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "torch", "transformers", "jinja2", "vllm")
    environment: ClassVar[Mapping[str, str]] = ENVIRONMENT
    fork: ClassVar[Fork] = "never"
    response_formats = frozenset(("json_object", "json_schema"))
    heeds = frozenset(("presence_penalty", "frequency_penalty", "logit_bias"))
    most_logprobs = _LOGPROBS

    def __init__(self, source: ModelSource) -> None:
        check_folder(source)
        self._template = folder_template(source.path)
        self._loop = EventLoop("vllm")
        self._llm: Any = self._loop.wait(start(source))
        self._tokenizer = self._llm.get_tokenizer()
        config = self._llm.model_config
        self.context = int(config.max_model_len)
        self._vocabulary = int(config.get_vocab_size())
        self._settings = config.try_get_generation_config()
        self.chats = self._template is not None
        self.tools = self._template is not None and self._template.tools
        self._numbers = itertools.count()
        self._closed = False
        self.writing = 0  # texts on their way; changed in the loop's thread only

    @classmethod
    def load(cls, source: ModelSource) -> VllmEngine:
        return cls(source)

    @property
    def slots(self) -> int:
        return SLOTS

    def watch(self, lost: Callable[[str], None]) -> None:
        self._loop.start(self._watch(lost))

    def prompt_tokens(self, request: GenerationRequest) -> int:
        return len(self._tokens(request))

    def begin(self, request: GenerationRequest) -> Handover:
        prompt = self._tokens(request)
        most = tokens_to_write(request, len(prompt), self.context)
        reader = _Reader()
        reader.text = self._loop.start(self._write(request, prompt, self._options(request, most), reader))
        return reader

    def close(self) -> None:
        """End all texts, then vLLM and its processes."""
        self._closed = True
        self._llm.shutdown()
        self._loop.stop()

    async def _write(self, request: GenerationRequest, prompt: list[int], options: Any, reader: Handover) -> None:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs import tokens_input

        self.writing += 1
        try:
            written = 0
            coming = self._llm.generate(tokens_input(prompt), options, f"text-{next(self._numbers)}")
            async for output in coming:
                (made,) = output.outputs
                # The token that ends a text counts among vLLM's tokens; here only those that are text.
                count = len(made.token_ids) - (made.finish_reason == "stop" and len(made.token_ids) > 0)
                if count or made.text:
                    logprobs = None if request.logprobs is None else _logprobs(made.logprobs, count, request.logprobs)
                    reader.put(Piece(made.text, count, logprobs))
                written += count
                if made.finish_reason is not None:
                    reader.put(_finish(made.finish_reason, len(prompt), written))
        except VLLMClientError as error:
            reader.fail(_refusal(request, error))
        except asyncio.CancelledError:
            reader.fail(RuntimeError("the engine was closed"))  # or nobody reads
            raise
        except Exception as error:  # whoever waits for the text is told
            reader.fail(error)
        finally:
            self.writing -= 1

    async def _watch(self, lost: Callable[[str], None]) -> None:
        while not self._llm.errored:
            await asyncio.sleep(_WATCH)
        if not self._closed:
            await asyncio.sleep(_WATCH)  # in which the texts on their way end with their errors
            lost("vLLM's core process has ended; its own words are above")

    def _tokens(self, request: GenerationRequest) -> list[int]:
        text = request.prompt
        if text is not None:
            return list(self._tokenizer.encode(fitting(text, self.context)))
        if self._template is None:
            raise RequestError("This model has no chat template.", param="messages")
        text = self._template.render(request.messages or (), request.tools)  # with its special tokens
        return list(self._tokenizer.encode(fitting(text, self.context), add_special_tokens=False))

    def _options(self, request: GenerationRequest, most: int) -> Any:
        """What is asked for, in the library's words; what is not said is as the model's own configuration has it."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        penalty = request.repetition_penalty
        return SamplingParams(
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            logit_bias=dict(request.logit_bias) if request.logit_bias else None,
            max_tokens=most,
            seed=None if request.seed is None else request.seed % _SEEDS,
            logprobs=request.logprobs,
            repetition_penalty=self._settings.get("repetition_penalty") or 1.0 if penalty is None else penalty,
            structured_outputs=_structure(request),
            output_kind=RequestOutputKind.DELTA,
            # With what an earlier prompt left in the cache the last digits may differ, which a seed forbids.
            skip_reading_prefix_cache=request.seed is not None or None,
            **self._sampling(request),
        )

    def _sampling(self, request: GenerationRequest) -> dict[str, Any]:
        asked = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
        asked = {name: value for name, value in asked.items() if value is not None}
        if request.temperature == 0 or not (asked or self._settings.get("do_sample")):
            return {"temperature": 0.0}
        own = {name: self._settings[name] for name in ("temperature", "top_p", "top_k") if self._settings.get(name)}
        options = {"temperature": 1.0, **own, **asked}
        if "top_k" in options:
            options["top_k"] = min(options["top_k"], self._vocabulary)
        return options


def _finish(reason: str, prompt: int, written: int) -> Finish:
    known: Mapping[str, Any] = {"stop": "stop", "length": "length"}
    return Finish(known.get(reason, "error"), prompt, written)


def _logprobs(given: Any, count: int, most: int) -> tuple[TokenLogprob, ...]:
    """Of the first `count` tokens; each with the likeliest in its place by rank, and itself wherever it ranks."""
    found = []
    for place in itertools.islice(given, count):
        token, *_ = place.values()  # the one that was taken stands first
        best = sorted((one for one in place.values() if one.rank <= most), key=lambda one: one.rank)
        top = tuple((one.decoded_token or "", one.logprob) for one in best)
        found.append(TokenLogprob(token.decoded_token or "", token.logprob, top))
    return tuple(found)


def _structure(request: GenerationRequest) -> Any:
    if request.response_format == "text":
        return None
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(json=guided_schema(request))


def _refusal(request: GenerationRequest, error: Exception) -> Exception:
    """What to tell for a text that could not begin: with a schema of the client's it is the schema."""
    if request.response_format == "text":
        if not request.logit_bias:
            return error
        return RequestError("Tokens are named that the model has not.", param="logit_bias", code="invalid_value")
    return RequestError(
        "The schema cannot be followed: it is none, or has a form that is not known.", param="response_format"
    )
