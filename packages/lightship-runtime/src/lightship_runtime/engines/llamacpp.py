"""Language models through llama.cpp: a GGUF file, mapped into memory.

`xllamacpp` has llama.cpp's own server inside, whose slots write texts together: who comes later joins at the next
token. The server also listens on a port of the loopback address, which cannot be kept from it: it answers to a key
that only this process knows, and is where texts become tokens and the model's properties are read.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any, ClassVar

from lightship_runtime.engines.engine import Fork, ModelSource
from lightship_runtime.errors import StartError
from lightship_runtime.generation.bounds import fitting, tokens_to_write
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece, TokenLogprob
from lightship_runtime.generation.schema_grammar import OBJECT, schema_grammar
from lightship_runtime.generation.templates import ChatTemplate
from lightship_runtime.payload.call import RequestError

DEFAULT_CONTEXT = 4096  # tokens, where nobody says more: each slot has the memory for all of them
SLOTS = 8  # texts at once
_STEP = 256  # tokens of a prompt between two looks at who has left; a multiple of llama.cpp's tiles
_LOGPROBS = 20  # as many as OpenAI's API can ask for
_SEEDS = (1 << 32) - 1  # that number itself means none
_PATIENCE = 60.0  # seconds that the server inside may take for anything but a text


class LlamaCppEngine(GenerationEngine):
    """One model and the server inside; each text on its way has a thread that waits for it."""

    packages: ClassVar[tuple[str, ...]] = ("jinja2", "xllamacpp")
    # Its threads meet some hundred times for each token. To sleep and be woken takes longer than they mostly wait;
    # but one that waits for long, because another has no core, keeps its own from it by spinning. So they spin some
    # microseconds. SmolLM2-135M, 2 threads, tokens/s on quiet cores and on cores that others use too: 140 and 54;
    # asleep at once 44 and 23; with 5000 rounds 140 and 10; with libgomp's own 300,000 142 and 2.
    environment: ClassVar[Mapping[str, str]] = {"GOMP_SPINCOUNT": "2000"}
    fork: ClassVar[Fork] = "never"
    response_formats = frozenset(("json_object", "json_schema"))
    heeds = frozenset(("presence_penalty", "frequency_penalty", "logit_bias"))
    most_logprobs = _LOGPROBS

    def __init__(self, source: ModelSource) -> None:
        _check(source)
        self._key = secrets.token_hex(32)
        self._server = _server(source, self._key)
        self._address = self._server.listening_address.removeprefix("http://")
        told = self._ask("GET", "/props")
        self.context = min(told["default_generation_settings"]["n_ctx"], source.model.context or DEFAULT_CONTEXT)
        self._template = self._chat_template(told)
        self.chats = self._template is not None
        self.tools = self._template is not None and self._template.tools
        self._texts: dict[Handover, threading.Thread] = {}

    @classmethod
    def load(cls, source: ModelSource) -> LlamaCppEngine:
        return cls(source)

    @property
    def slots(self) -> int:
        return SLOTS

    @property
    def writing(self) -> int:
        """Texts on their way."""
        return len(self._texts)

    def prompt_tokens(self, request: GenerationRequest) -> int:
        _grammar(request)  # a schema that cannot be kept to is refused before the text has its turn
        return len(self._tokens(request))

    def begin(self, request: GenerationRequest) -> Handover:
        prompt = self._tokens(request)
        body = _body(request, prompt, tokens_to_write(request, len(prompt), self.context))
        reader = Handover()
        thread = threading.Thread(target=self._write, args=(request, body, reader), name="generate", daemon=True)
        self._texts[reader] = thread
        thread.start()
        return reader

    def close(self) -> None:
        """End all texts, then the server."""
        texts = dict(self._texts)
        for reader in texts:
            reader.cancelled = True
            reader.fail(RuntimeError("the engine was closed"))
        for thread in texts.values():
            thread.join()
        self._server = None

    def _write(self, request: GenerationRequest, body: dict[str, Any], reader: Handover) -> None:
        text = _Text(reader, len(body["prompt"]), request.logprobs)
        try:
            self._server.handle_completions(body, text.take)
            text.end()
        except Exception as error:  # whoever waits for the text is told
            reader.fail(error)
        finally:
            del self._texts[reader]

    def _tokens(self, request: GenerationRequest) -> list[int]:
        text = request.prompt
        if text is None:
            if self._template is None:
                raise RequestError("This model has no chat template.", param="messages")
            return self._tokenized(self._template.render(request.messages or (), request.tools), bare=True)
        return self._tokenized(text)

    def _tokenized(self, text: str, *, bare: bool = False) -> list[int]:
        """`bare` without the token that begins a text: a template has written it."""
        body = {"content": fitting(text, self.context), "add_special": not bare, "parse_special": True}
        found: list[int] = self._ask("POST", "/tokenize", body)["tokens"]
        return found

    def _chat_template(self, told: Mapping[str, Any]) -> ChatTemplate | None:
        """The model's own. For a file without one llama.cpp takes ChatML, which few such models were made for."""
        source = told.get("chat_template")
        if not source or ("<|im_start|>" in source and len(self._tokenized("<|im_start|>", bare=True)) != 1):
            return None
        return ChatTemplate(source, {name: told.get(name) or "" for name in ("bos_token", "eos_token")})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = HTTPConnection(self._address, timeout=_PATIENCE)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"llama.cpp answered {answer.status} to {path}: {str(content)[:300]}")
        return content


class _Text:
    """What the server calls with each part of a text, from the thread that waits for it."""

    def __init__(self, reader: Handover, prompt: int, probabilities: int | None) -> None:
        self._reader = reader
        self._prompt = prompt
        self._probabilities = probabilities
        self._told = 0  # tokens that pieces have been made of
        self._finish: Finish | None = None
        self._error: str | None = None

    def take(self, part: Mapping[str, Any]) -> bool:
        """One part; true ends the text."""
        if "error" in part:
            self._error = str(part["error"].get("message"))[:300]
            return True
        written = part["timings"]["predicted_n"] if "timings" in part else self._told
        choice, ended = part["choices"][0], part["choices"][0]["finish_reason"]
        if ended is not None:
            # The token that ends a text counts there; here only those that are text.
            written = max(part["usage"]["completion_tokens"] - (ended == "stop"), self._told)
            self._finish = Finish("stop" if ended == "stop" else "length", self._prompt, written)
        if choice["text"] or (self._finish is not None and written > self._told):
            self._reader.put(Piece(choice["text"], written - self._told, self._logprobs(choice)))
            self._told = written
        return self._reader.cancelled

    def end(self) -> None:
        """What there is to tell when the server has no more parts."""
        if self._finish is not None:
            self._reader.put(self._finish)
        elif not self._reader.cancelled:
            self._reader.fail(RuntimeError(f"llama.cpp could not go on: {self._error}"))

    def _logprobs(self, choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...] | None:
        """Of a character made of several tokens llama.cpp tells the last token's only."""
        if self._probabilities is None:
            return None
        return tuple(
            TokenLogprob(
                one["token"],
                one["logprob"],
                tuple((best["token"], best["logprob"]) for best in one["top_logprobs"][: self._probabilities]),
            )
            for one in (choice["logprobs"] or {}).get("content") or ()
        )


def _check(source: ModelSource) -> None:
    try:
        with source.path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise source.unreadable(error) from error
    if magic != b"GGUF":
        raise StartError(f"{source.model.path} is no GGUF file.", hint="Copy the file again, or convert the model.")


def _server(source: ModelSource, key: str) -> Any:
    import xllamacpp

    told = xllamacpp.CommonParams()
    told.model.path = str(source.path)
    told.n_parallel = SLOTS
    told.n_ctx = SLOTS * (source.model.context or DEFAULT_CONTEXT)  # cut down to what the model was trained with
    told.n_batch = told.n_ubatch = _STEP
    for cpu in (told.cpuparams, told.cpuparams_batch):
        cpu.n_threads = source.threads
    told.n_threads_http = 1
    told.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP
    told.fit_params = False  # or it would choose another context, by the memory that is free now
    told.cache_ram_mib = 0  # of prompts that no slot has any more: 8 GiB otherwise
    told.api_keys = [key]
    told.ui = told.endpoint_slots = told.use_jinja = False
    told.offline = True
    told.verbosity = 0
    try:
        return xllamacpp.Server(told)
    except RuntimeError as error:
        raise StartError(
            f"llama.cpp cannot load {source.model.path}: {str(error)[:300]}",
            hint="The file may be cut off, or of an architecture that this version of xllamacpp does not know.",
        ) from error


def _body(request: GenerationRequest, prompt: list[int], most: int) -> dict[str, Any]:
    """What is asked for, in the server's words; what is not said is as the model's file or llama.cpp has it."""
    body: dict[str, Any] = {
        "prompt": prompt,
        "n_predict": most,
        "stream": True,
        "stream_options": {"include_usage": True},
        "timings_per_token": True,
        "return_progress": True,  # parts while a prompt is read, so that it can be given up
        # What a slot has read before is read no more; the last digits may then differ, which a seed forbids.
        "cache_prompt": request.seed is None,
    }
    penalised = request.repetition_penalty or request.presence_penalty or request.frequency_penalty
    asked = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "repeat_penalty": request.repetition_penalty,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "repeat_last_n": len(prompt) + most if penalised else None,
        "logit_bias": [list(one) for one in request.logit_bias.items()] if request.logit_bias else None,
        "seed": None if request.seed is None else request.seed % _SEEDS,
        "n_probs": None if request.logprobs is None else max(request.logprobs, 1),
        "grammar": _grammar(request),
    }
    return body | {name: value for name, value in asked.items() if value is not None}


def _grammar(request: GenerationRequest) -> str | None:
    if request.response_format == "json_schema":
        return schema_grammar(request.schema or {})
    return OBJECT if request.response_format == "json_object" else None
