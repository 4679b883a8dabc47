"""How each server is started with the model, and how it is asked for a stream of text, greedy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.llm.client import Ask
from bench.llm.models import Models
from bench.serve.contestants import RUNTIME, Place
from bench.serve.environments import environment
from bench.serve.server import Question, Server, free_port

PEERS = Path(__file__).parent / "peers"
CONTEXT = 4096  # tokens, which our server has for each text
_UNUSED = (Question("/", "{}", ""),)  # these servers are asked by `bench.llm.client`


@dataclass(frozen=True)
class Setting:
    """What all servers of a run have in common.

    Attributes:
        models: The model in all its forms.
        place: Where environments are, and where a server may write.
    """

    models: Models
    place: Place


@dataclass(frozen=True)
class Contestant:
    """A server by name.

    Attributes:
        name: What its line in the tables says.
        weights: Engine and precision, in a word each.
        environment: What it runs in.
        start: Starts it; it may not answer yet.
        ask: A message and the tokens to write, as this server is asked.
    """

    name: str
    weights: str
    environment: str
    start: Callable[[Path, Setting], Server]
    ask: Callable[[Setting, str, int], Ask]

    def run(self, setting: Setting) -> Server:
        """Start it with the Python of its environment."""
        return self.start(environment(self.environment, setting.place.cache, PEERS), setting)


@dataclass(frozen=True)
class Lightship:
    """Our server, as an image has it."""

    engine: str
    format: str
    model: Callable[[Models], Path]

    def __call__(self, python: Path, setting: Setting) -> Server:
        folder, port = setting.place.fresh("lightship"), free_port()
        (folder / "model").symlink_to(self.model(setting.models))
        model = {"path": "model", "format": self.format, "engine": self.engine}
        path = folder / ".lightship" / "serve.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"host": "127.0.0.1", "port": port, "model": model}))
        environ = {"LIGHTSHIP_CONFIG": str(path), "PYTHONPATH": str(RUNTIME)}
        command = [str(python), "-m", "lightship_runtime"]
        return Server(command, port, _UNUSED, environ=environ, cwd=folder, log=folder / "log")


@dataclass(frozen=True)
class Textbook:
    """FastAPI, transformers, a thread with `model.generate` for each request; uvicorn, one process."""

    dtype: str

    def __call__(self, python: Path, setting: Setting) -> Server:
        folder, port = setting.place.fresh("textbook"), free_port()
        environ = {"BENCH_MODEL": str(setting.models.folder), "BENCH_DTYPE": self.dtype, "HF_HUB_OFFLINE": "1"}
        command = [str(python.with_name("uvicorn")), "serve:app", "--app-dir", str(PEERS / "transformers")]
        address = ["--host", "127.0.0.1", "--port", str(port)]
        return Server([*command, *address], port, _UNUSED, environ=environ, cwd=folder, log=folder / "log")


@dataclass(frozen=True)
class TransformersServe:
    """transformers' own server, with its own defaults and `options`."""

    options: tuple[str, ...] = ()

    def __call__(self, python: Path, setting: Setting) -> Server:
        folder, port = setting.place.fresh("transformers-serve"), free_port()
        environ = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [str(python.with_name("transformers")), "serve", str(setting.models.folder), *self.options]
        address = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
        return Server([*command, *address], port, _UNUSED, environ=environ, cwd=folder, log=folder / "log")


def _llama_cpp_python(python: Path, setting: Setting) -> Server:
    """With all cores, and without the default that ends a stream where it stands as soon as somebody else asks."""
    folder, port = setting.place.fresh("llama-cpp-python"), free_port()
    threads = str(_threads())
    command = [str(python), "-m", "llama_cpp.server", "--model", str(setting.models.gguf)]
    options = ["--n_ctx", str(CONTEXT), "--n_threads", threads, "--n_threads_batch", threads]
    options += ["--interrupt_requests", "false", "--host", "127.0.0.1", "--port", str(port)]
    return Server([*command, *options], port, _UNUSED, environ={}, cwd=folder, log=folder / "log")


@dataclass(frozen=True)
class LlamaServer:
    """llama.cpp's own server, inside the library that our server uses."""

    slots: int

    def __call__(self, python: Path, setting: Setting) -> Server:
        folder, port = setting.place.fresh("llama-server"), free_port()
        command = [str(python), str(PEERS / "xllamacpp" / "serve.py"), str(setting.models.gguf)]
        numbers = [str(number) for number in (port, _threads(), self.slots, CONTEXT)]
        return Server([*command, *numbers], port, _UNUSED, environ={}, cwd=folder, log=folder / "log")


def _threads() -> int:
    """One for each core, as our server has them."""
    return len(os.sched_getaffinity(0))


def _openai(setting: Setting, message: str, tokens: int, model: str | None = None) -> Ask:
    named = {} if model is None else {"model": model}
    body = {
        **named,
        "messages": [{"role": "user", "content": message}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return Ask("/v1/chat/completions", body)


def _ask_textbook(setting: Setting, message: str, tokens: int) -> Ask:
    return Ask("/generate", {"message": message, "max_new_tokens": tokens})


def _ask_transformers(setting: Setting, message: str, tokens: int) -> Ask:
    return _openai(setting, message, tokens, str(setting.models.folder))


# By default its cache takes 60 % of the memory that is free, and is filled with zeros before the first answer. This
# one has room for 16,384 tokens.
_BATCHING = ("--continuous-batching", "--cb-max-batch-tokens", "512", "--cb-num-blocks", "64")
_GENAI = ("onnxruntime-genai", "onnx-genai")
OURS = {
    one.name: one
    for one in (
        Contestant("lightship", "genai int4", "lightship", Lightship(*_GENAI, lambda models: models.int4), _openai),
        Contestant(
            "lightship-fp32", "genai fp32", "lightship", Lightship(*_GENAI, lambda models: models.fp32), _openai
        ),
        Contestant(
            "lightship-transformers",
            "transformers fp32",
            "transformers",
            Lightship("transformers-generation", "huggingface", lambda models: models.folder),
            _openai,
        ),
        Contestant(
            "lightship-gguf",
            "llama.cpp Q4_1",
            "xllamacpp",
            Lightship("llamacpp", "gguf", lambda models: models.gguf),
            _openai,
        ),
    )
}
PEER_SERVERS = {
    one.name: one
    for one in (
        Contestant("textbook", "transformers fp32", "transformers", Textbook("float32"), _ask_textbook),
        Contestant("textbook-bf16", "transformers bf16", "transformers", Textbook("bfloat16"), _ask_textbook),
        Contestant("transformers-serve", "transformers fp32", "transformers", TransformersServe(), _ask_transformers),
        Contestant(
            "transformers-batching",
            "transformers fp32",
            "transformers",
            TransformersServe(_BATCHING),
            _ask_transformers,
        ),
        Contestant("llama-cpp-python", "llama.cpp Q4_1", "llama-cpp-python", _llama_cpp_python, _openai),
        Contestant("llama-server", "llama.cpp Q4_1", "xllamacpp", LlamaServer(slots=8), _openai),
    )
}
