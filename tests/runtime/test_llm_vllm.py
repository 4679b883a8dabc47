"""vLLM itself, on the GPU where there is one and else its build for CPUs: its own tokens, and nothing left behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_checks import load
from engine_texts import asked, in_threads, written
from runtime_servers import Runtime, family

from lightship_runtime.errors import IntegrityError, StartError
from lightship_runtime.generation.request import GenerationRequest
from lightship_runtime.payload.call import RequestError

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm, or on a GPU make test-gpu")
transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
import tiny_language as tiny  # noqa: E402

pytestmark = pytest.mark.slow

PATIENCE = 60  # seconds until which a text must be out of the batch; it takes a step of the model
# In single precision it writes what transformers writes; a GPU is shared with no other engine of these tests.
ARGUMENTS = "--dtype float32 --gpu-memory-utilization 0.3"
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB
PROMPTS = [
    "The quick brown fox",
    "Once upon a time",
    "A",
    "ship <|end|> of <|end|> light <|end|>",
    "Grüße 🙂 日本",
    "the sea the sea the sea the sea the sea the sea the sea the sea the sea the sea the sea the sea",
    "lazy dog. " * 9,
    "fox",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.language_model(tmp_path_factory.mktemp("models") / "tiny", heads=2)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LIGHTSHIP_VLLM_ARGS": ARGUMENTS, **CPU}.items():
            patch.setenv(name, value)
        with closing(load(folder, "huggingface", "vllm", threads=2)) as made:
            yield made


def idle(engine: Any) -> bool:
    """Whether neither this process nor vLLM's core has a text any more."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and (engine.writing or engine._llm.output_processor.has_unfinished_requests()):
        time.sleep(0.01)
    return not engine.writing and not engine._llm.output_processor.has_unfinished_requests()


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def write(prompt: str, most: int) -> list[int]:
        tokens = tokenizer(prompt, return_tensors="pt")
        made = model.generate(**tokens, do_sample=False, max_new_tokens=most)[0, tokens["input_ids"].shape[1] :]
        found: list[int] = made.tolist()
        return found[:-1] if found[-1] == tokenizer.eos_token_id else found

    return write


def own_greedy_tokens(engine: Any, prompt: str, most: int) -> list[int]:
    """What vLLM writes when it is asked directly, without anything of ours."""
    from vllm import SamplingParams
    from vllm.inputs import tokens_input

    async def ask() -> list[int]:
        tokens = engine._tokenizer.encode(prompt)
        options = SamplingParams(temperature=0.0, max_tokens=most)
        async for output in engine._llm.generate(tokens_input(tokens), options, f"direct-{time.monotonic_ns()}"):
            last = output.outputs[0]
        found = list(last.token_ids)
        return found[:-1] if last.finish_reason == "stop" else found

    return list(engine._loop.wait(ask()))


def text_of(engine: Any, tokens: list[int]) -> str:
    return str(engine._tokenizer.decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_the_librarys_own(engine: Any, prompt: str) -> None:
    direct = own_greedy_tokens(engine, prompt, 40)
    text, finish, _ = written(engine, asked(prompt, 40))
    assert finish.completion_tokens == len(direct)
    assert text.rstrip("\ufffd") == text_of(engine, direct).rstrip("\ufffd")  # vLLM ends before half a character
    assert finish.reason == ("length" if len(direct) == 40 else "stop")


@pytest.mark.parametrize("prompt", PROMPTS)
def test_it_writes_what_transformers_writes(engine: Any, reference: Any, prompt: str) -> None:
    assert own_greedy_tokens(engine, prompt, 12) == reference(prompt, 12)


def test_texts_together_are_those_that_each_gets_alone(engine: Any) -> None:
    requests = [asked(prompt, 20 + 3 * number) for number, prompt in enumerate(PROMPTS)]
    alone = [written(engine, request)[:2] for request in requests]
    for _ in range(3):
        assert [answer[:2] for answer in in_threads(engine, requests)] == alone


def test_texts_come_piece_by_piece(engine: Any) -> None:
    pieces = written(engine, asked("the sea the sea the sea", 30))[2]
    assert len(pieces) > 10
    assert max(piece.tokens for piece in pieces) < 10


def test_who_comes_later_does_not_wait_for_the_others(engine: Any) -> None:
    others = [engine.generate(asked("A", 450, temperature=1.0)) for _ in range(3)]
    for other in others:
        next(other)
    written(engine, asked("Once upon a time", 3))
    assert engine.writing > 0
    for other in others:
        other.close()
    assert idle(engine)


def test_abandoned_texts_leave_nothing_behind(engine: Any) -> None:
    for number in range(30):
        pieces = engine.generate(asked(PROMPTS[number % 3], 400, temperature=1.0))
        next(pieces)
        pieces.close()
    assert idle(engine)
    for number in range(10):  # never begun, and lost without a word
        engine.generate(asked("A", 400))
        next(engine.generate(asked(PROMPTS[number % 3], 400, temperature=1.0)))
    assert idle(engine)


def test_texts_that_are_abandoned_do_not_disturb_their_neighbours(engine: Any) -> None:
    requests = [asked(prompt, 48) for prompt in PROMPTS[:4]]
    alone = [written(engine, request)[:2] for request in requests]
    gone = [engine.generate(asked("A", 400, temperature=1.0, seed=seed)) for seed in range(4)]
    for pieces in gone:
        list(itertools.islice(pieces, 2))
    threading.Timer(0.05, lambda: [pieces.close() for pieces in gone]).start()
    assert [answer[:2] for answer in in_threads(engine, requests)] == alone
    assert idle(engine)


def test_equal_seeds_give_equal_texts(engine: Any) -> None:
    seeds = (7, 7, 8, -1, -1, 1 << 62)  # -1 is vLLM's word for none
    texts = [written(engine, asked("Once", 24, temperature=1.0, seed=seed))[0] for seed in seeds]
    assert texts[0] == texts[1]
    assert texts[3] == texts[4]
    assert len(set(texts)) > 2
    assert len({written(engine, asked("Once", 24, temperature=1.0))[0] for _ in range(4)}) > 1


def test_sampling_within_the_best_token_is_greedy(engine: Any) -> None:
    greedy = written(engine, asked("Once", 24))[0]
    assert written(engine, asked("Once", 24, temperature=1.5, top_k=1))[0] == greedy
    assert written(engine, asked("Once", 24, temperature=0.02, top_p=0.01))[0] == greedy
    assert written(engine, asked("Once", 24, temperature=1.0, top_k=1 << 20, top_p=1.0))[1].completion_tokens
    # The model's own configuration does not sample, so that nothing said is greedy.
    assert written(engine, GenerationRequest(prompt="Once", max_tokens=24))[0] == greedy


def test_a_repetition_penalty_changes_the_text(engine: Any) -> None:
    prompt = "the sea the sea the sea"
    assert written(engine, asked(prompt, 60))[0] != written(engine, asked(prompt, 60, repetition_penalty=5.0))[0]


def test_what_openai_asks_for_is_heeded(engine: Any) -> None:
    prompt = "the sea the sea the sea"
    plain = written(engine, asked(prompt, 60))[0]
    assert written(engine, asked(prompt, 60, presence_penalty=2.0))[0] != plain
    assert written(engine, asked(prompt, 60, frequency_penalty=2.0))[0] != plain
    token = engine._tokenizer.encode("q")[0]
    assert "qqqq" in written(engine, asked(prompt, 8, logit_bias={token: 100.0}))[0]
    with pytest.raises(RequestError, match="Tokens are named") as caught:
        written(engine, asked(prompt, 8, logit_bias={1 << 20: 1.0}))
    assert caught.value.param == "logit_bias"


def test_a_text_that_waits_can_be_given_up(engine: Any) -> None:
    readers = [engine.begin(asked("A", 400, temperature=1.0)) for _ in range(8)]
    for reader in readers:
        reader.cancelled = True
    assert idle(engine)


def test_log_probabilities_are_the_models(engine: Any, folder: Path) -> None:
    prompt = "The quick brown fox"
    pieces = written(engine, asked(prompt, 4, logprobs=3))[2]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")["input_ids"]
    found = [one for piece in pieces for one in piece.logprobs or ()]
    assert len(found) == 4
    for one in found:
        with torch.inference_mode():
            row = torch.log_softmax(model(tokens).logits[0, -1], dim=-1)
        best = torch.topk(row, 3)
        assert one.logprob == pytest.approx(float(best.values[0]), abs=2e-2)
        assert [value for _, value in one.top] == pytest.approx(best.values.tolist(), abs=2e-2)
        assert one.top[0] == (one.token, one.logprob)
        tokens = torch.cat([tokens, best.indices[:1].reshape(1, 1)], dim=1)
    bare = [one for piece in written(engine, asked(prompt, 2, logprobs=0))[2] for one in piece.logprobs or ()]
    assert [one.top for one in bare] == [(), ()]
    sampled = written(engine, asked(prompt, 20, logprobs=2, temperature=2.0, seed=4))[2]
    assert all(len(one.top) == 2 for piece in sampled for one in piece.logprobs or ())


def test_what_does_not_fit_is_refused_before_anything_is_written(engine: Any) -> None:
    assert engine.context == tiny.CONTEXT
    with pytest.raises(RequestError, match="context") as caught:
        next(engine.generate(asked("A", tiny.CONTEXT)))
    assert (caught.value.status, caught.value.param) == (400, "max_tokens")
    with pytest.raises(RequestError, match="characters cannot fit"):
        engine.prompt_tokens(asked("the sea " * (32 * tiny.CONTEXT)))
    with pytest.raises(RequestError, match="empty"):
        next(engine.generate(asked("")))


def test_a_text_may_fill_its_context(engine: Any) -> None:
    finish = written(engine, GenerationRequest(prompt="the sea " * 100, temperature=1.0, seed=3))[1]
    assert finish.reason == "stop" or finish.prompt_tokens + finish.completion_tokens == tiny.CONTEXT


def test_a_conversation_goes_through_the_models_template(engine: Any, folder: Path) -> None:
    messages = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "A"})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    direct = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    request = GenerationRequest(messages=messages, max_tokens=12, temperature=0.0)
    assert engine.prompt_tokens(request) == len(tokenizer(direct, add_special_tokens=False)["input_ids"])
    assert written(engine, request)[:2] == written(engine, asked(direct, 12))[:2]


def test_json_that_follows_a_schema(engine: Any) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}
    schema["additionalProperties"] = False
    request = asked("A", 200, response_format="json_schema", schema=schema, temperature=1.0)
    for text, finish, _ in [written(engine, request), *in_threads(engine, [request] * 3)]:
        if finish.reason == "stop":
            assert isinstance(json.loads(text)["n"], bool)
        else:
            assert text.lstrip().startswith("{")
    text, finish, _ = written(engine, asked("A", 300, response_format="json_object", temperature=1.0, seed=2))
    assert isinstance(json.loads(text), dict) if finish.reason == "stop" else text.lstrip().startswith("{")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(("},
        {"$ref": "#/x"},
        {"type": "nothing"},
        {"enum": ["a" * (1 << 17)]},
        {"type": "array", "items": {"type": "string"}, "minItems": 1 << 40},
        {"type": "string", "minLength": 1 << 62},
        {"type": "string", "pattern": "(a{1,9999}){1,9999}"},
        json.loads('{"not":' * 100 + "{}" + "}" * 100),
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},  # what follows it never ends
        {"type": "array", "items": {"type": "array", "minItems": 40_000}, "minItems": 40_000},
        {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(1000)}},
    ],
)
def test_no_schema_ends_the_engine(engine: Any, schema: dict[str, Any]) -> None:
    request = asked("A", 5, response_format="json_schema", schema=schema)
    try:
        written(engine, request)
    except RequestError as error:
        assert error.param == "response_format"
    assert not engine._llm.errored
    assert written(engine, asked("A", 5))[1].prompt_tokens == 1
    assert idle(engine)


def test_no_statistics_leave_the_machine(engine: Any) -> None:
    from vllm.usage.usage_lib import is_usage_stats_enabled

    assert engine.environment["HF_HUB_OFFLINE"] == "1"
    assert not is_usage_stats_enabled()


def test_pickled_weights_and_wrong_arguments_are_errors_for_people(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(IntegrityError, match="pickles"):
        load(tmp_path, "huggingface", "vllm")
    monkeypatch.setenv("LIGHTSHIP_VLLM_ARGS", "--gpu-memory-utilisation 1")
    with pytest.raises(StartError, match="LIGHTSHIP_VLLM_ARGS"):
        load(folder, "huggingface", "vllm")


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    app = tmp_path_factory.mktemp("app")
    (app / "model").symlink_to(folder)
    model = {"path": "model", "format": "huggingface", "engine": "vllm"}
    runtime = Runtime(app, {"model": model}, {"LIGHTSHIP_VLLM_ARGS": ARGUMENTS, **CPU})
    try:
        runtime.wait_for("ready", 10 * PATIENCE)
        yield runtime
    finally:
        runtime.close()


def test_a_whole_server_answers_and_replaces_a_core_that_is_lost(server: Runtime) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    status, answer = server.ask("POST", "/generate", json.dumps(body).encode())
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 8
    cores = [pid for pid in family(server.process.pid) if "EngineCore" in name_of(pid)]
    assert cores
    os.kill(cores[0], signal.SIGKILL)
    server.wait_for("process with the model is replaced", PATIENCE)
    lost = server.event("model lost")
    assert lost is not None
    assert "core process" in lost["reason"]
    ends = time.monotonic() + 10 * PATIENCE
    while server.ask("GET", "/health")[0] != 200:
        assert time.monotonic() < ends
        time.sleep(0.5)
    again = server.ask("POST", "/generate", json.dumps(body).encode())
    assert (again[0], again[1]["text"]) == (200, answer["text"])
    everybody = family(server.process.pid)
    server.stop(signal.SIGKILL)  # of the first process: nobody is left to end the others, or to free the GPU
    ends = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in everybody):
        assert time.monotonic() < ends, "a process of vLLM's is left"
        time.sleep(0.1)


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
