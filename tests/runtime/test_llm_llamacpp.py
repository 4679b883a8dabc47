"""llama.cpp in particular: its own text, slots that are joined and left, and a port that answers to nobody."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from engine_checks import load
from runtime_servers import Runtime

from lightship_runtime.errors import StartError
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece
from lightship_runtime.payload.call import RequestError

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")
xllamacpp = pytest.importorskip("xllamacpp")
pytest.importorskip("jinja2")
import tiny_language as tiny  # noqa: E402

PROMPTS = ["The quick brown fox", "A", "ship <|end|> of <|end|> light <|end|>", "Grüße 🙂 日本", "lazy dog. " * 9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.language_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def path(folder: Path) -> Path:
    return tiny.gguf(folder, folder.with_name("tiny.gguf"))


@pytest.fixture(scope="module")
def engine(path: Path) -> Iterator[Any]:
    with closing(opened(path)) as made:
        yield made


def opened(path: Path) -> Any:
    return load(path, "gguf", "llamacpp")


def asked(prompt: str, most: int = 32, **more: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, max_tokens=most, **{"temperature": 0.0, **more})


def written(engine: Any, request: GenerationRequest) -> tuple[str, Finish, list[Piece]]:
    *pieces, finish = engine.generate(request)
    return "".join(piece.text for piece in pieces), finish, pieces


def gone(engine: Any) -> bool:
    for thread in list(engine._texts.values()):
        thread.join(30)
    return not engine.writing


def test_greedy_tokens_are_the_librarys_own(path: Path, engine: Any) -> None:
    told = xllamacpp.CommonParams()
    told.model.path = str(path)
    told.n_ctx, told.verbosity, told.ui = tiny.CONTEXT, 0, False
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(told)
    for prompt in PROMPTS:
        body = {"prompt": prompt, "n_predict": 40, "temperature": 0, "n_probs": 1, "cache_prompt": False}
        parts: list[Any] = []
        server.handle_completions(body | {"stream": True}, lambda part, parts=parts: bool(parts.append(part)))
        direct = [part["choices"][0] for part in parts]
        text, finish, pieces = written(engine, asked(prompt, 40, logprobs=1, seed=1))
        assert text == "".join(part["text"] for part in direct)
        assert finish.reason == direct[-1]["finish_reason"]
        tokens = [one.token for piece in pieces for one in piece.logprobs or ()]
        wanted = [one["token"] for part in direct if part["logprobs"] for one in part["logprobs"]["content"]]
        assert tokens == [token for token in wanted if token]  # the last one, which ends the text, has none


def test_a_model_in_parts_is_the_same_model(folder: Path, engine: Any, tmp_path: Path) -> None:
    first = tiny.gguf(folder, tmp_path / "parts.gguf", parts_of=5)
    assert len(list(tmp_path.iterdir())) > 2
    with closing(opened(first)) as parts:
        for prompt in PROMPTS[:3]:
            assert written(parts, asked(prompt)) == written(engine, asked(prompt))


def test_prompts_have_the_tokens_of_the_models_own_tokenizer(folder: Path, engine: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for prompt in PROMPTS:
        assert engine._tokens(asked(prompt)) == tokenizer(prompt)["input_ids"]


def test_who_comes_later_writes_beside_the_others(engine: Any) -> None:
    seeds = {seed: written(engine, asked("A", 450, temperature=1.0, seed=seed))[1] for seed in range(30)}
    long = max(seeds, key=lambda seed: seeds[seed].completion_tokens)
    other = engine.generate(asked("A", 450, temperature=1.0, seed=long))
    next(other)
    steps = written(engine, asked("Once upon a time", 2))[1].completion_tokens
    assert steps <= 2
    rest = [piece for piece in other if isinstance(piece, Piece)]
    assert rest  # had the first been waited for, nothing of it would have been left
    assert gone(engine)


def test_who_leaves_while_the_prompt_is_read_frees_the_slot(engine: Any) -> None:
    prompt = "the quick brown fox jumps over the lazy dog. " * 40
    assert engine.prompt_tokens(asked(prompt)) > 256
    for _ in range(engine.slots * 3):
        pieces = engine.generate(asked(prompt, 8))
        thread = threading.Thread(target=lambda pieces=pieces: next(pieces, None))
        thread.start()
        thread.join()
        pieces.close()
    assert gone(engine)
    assert written(engine, asked("A", 3))[1].prompt_tokens == 1


def test_an_object_of_json_is_kept_to(engine: Any) -> None:
    for seed in range(6):
        request = asked("A", 300, temperature=1.0, seed=seed, response_format="json_object")
        text, finish, _ = written(engine, request)
        if finish.reason == "stop":
            assert isinstance(json.loads(text), dict)
        else:
            assert text.startswith("{")


def test_a_model_without_a_template_does_not_chat(folder: Path, engine: Any) -> None:
    assert engine.chats
    with closing(opened(tiny.gguf(folder, folder.with_name("bare.gguf"), template=None))) as bare:
        assert not bare.chats
        with pytest.raises(RequestError, match="template"):
            bare.prompt_tokens(GenerationRequest(messages=({"role": "user", "content": "A"},)))


def test_the_port_inside_answers_to_nobody_else(engine: Any) -> None:
    host, _, _ = engine._address.partition(":")
    assert host == "127.0.0.1"
    for method, path in (("POST", "/completion"), ("POST", "/tokenize"), ("GET", "/props"), ("GET", "/slots")):
        connection = HTTPConnection(engine._address, timeout=30)
        connection.request(method, path, "{}" if method == "POST" else None)
        assert connection.getresponse().status == 401
        connection.close()


def test_signals_stay_the_processs_own(path: Path) -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: caught.append(number))
    try:
        with closing(opened(path)):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught == [signal.SIGTERM]


def test_texts_on_their_way_end_with_the_engine(path: Path) -> None:
    made = opened(path)
    texts = [made.generate(asked("A", 450, temperature=1.0, seed=seed)) for seed in range(6)]
    for text in texts:
        next(text)
    made.close()
    for text in texts:
        try:
            list(text)
        except RuntimeError as error:
            assert "closed" in str(error)
    assert not made.writing


def test_a_whole_server_chats_and_forgets_who_leaves(path: Path) -> None:
    model = {"path": path.name, "format": "gguf", "engine": "llamacpp"}
    with closing(Runtime(path.parent, {"model": model, "name": "tiny"}, {})) as server:
        server.ready()
        body = {"messages": [{"role": "user", "content": "fox"}], "max_tokens": 8, "temperature": 0}
        status, whole = server.ask("POST", "/v1/chat/completions", json.dumps(body).encode())
        assert status == 200
        assert whole["usage"]["completion_tokens"] <= 8
        refused = {**body, "messages": [{"role": "tool", "content": "fox"}]}
        status, error = server.ask("POST", "/v1/chat/completions", json.dumps(refused).encode())
        assert (status, "no tools here" in error["error"]["message"]) == (400, True)
        for _ in range(6):  # more than there are slots
            leaving = HTTPConnection("127.0.0.1", server.port, timeout=60)
            long = {"prompt": "A", "max_tokens": 450, "temperature": 1.0, "stream": True}
            leaving.request("POST", "/v1/completions", json.dumps(long), {"Content-Type": "application/json"})
            assert leaving.getresponse().status == 200
            leaving.close()
        assert server.ask("POST", "/v1/chat/completions", json.dumps(body).encode())[1]["choices"] == whole["choices"]
        assert server.stop() == 0


def test_a_file_that_is_no_model_is_an_error_for_people(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    for content, words in (
        (b"PK\x03\x04", "no GGUF"),
        (path.read_bytes()[:5000], "cannot load"),
        (b"GGUF", "cannot"),
    ):
        broken.write_bytes(content)
        with pytest.raises(StartError, match=words):
            opened(broken)
    broken.unlink()
    with pytest.raises(StartError):
        load(broken, "gguf", "llamacpp", sha256=None)
