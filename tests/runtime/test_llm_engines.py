"""Engines that write text, with a tiny real model: the library's own tokens, and nothing left behind."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_checks import load
from engine_texts import asked, in_threads, written

from lightship_runtime.engines import BadInstances, Options
from lightship_runtime.errors import IntegrityError, StartError
from lightship_runtime.generation.request import GenerationRequest
from lightship_runtime.payload.call import RequestError

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytest.importorskip("jinja2")
import tiny_language as tiny  # noqa: E402

GENAI, REFERENCE, LLAMA = "onnxruntime-genai", "transformers-generation", "llamacpp"
FORMATS = {GENAI: "onnx-genai", REFERENCE: "huggingface", LLAMA: "gguf"}
PATIENCE = 30  # seconds until which a slot must be free again; it takes a step of the model
PROMPTS = [
    "The quick brown fox",
    "Once upon a time",
    "A",
    "ship <|end|> of <|end|> light <|end|>",  # the token for padding within a prompt
    "Grüße 🙂 日本",
    "the sea the sea the sea the sea the sea the sea the sea the sea the sea the sea the sea the sea",
    "lazy dog. " * 9,
    "fox",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.language_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def onnx(folder: Path) -> Path:
    pytest.importorskip("onnxruntime_genai")
    return tiny.converted(folder, folder.with_name("onnx"))


@pytest.fixture(scope="module")
def gguf(folder: Path) -> Path:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    return tiny.gguf(folder, folder.with_name("tiny.gguf"))


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """The same model with a setting that only `generate()` knows, so that its texts are written one by one."""
    path = shutil.copytree(folder, folder.with_name("alone"))
    told = json.loads((path / "generation_config.json").read_text())
    (path / "generation_config.json").write_text(json.dumps({**told, "max_time": 600.0}))
    return path


@pytest.fixture(scope="module", params=["onnx", "folder", "alone", "gguf"])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    path = request.getfixturevalue(request.param)
    with closing(opened(path, {"onnx": GENAI, "gguf": LLAMA}.get(request.param, REFERENCE))) as made:
        yield made


def opened(path: Path, engine: str, **more: Any) -> Any:
    return load(path, FORMATS[engine], engine, threads=2, **more)


def idle(engine: Any) -> bool:
    ends = time.monotonic() + PATIENCE
    while engine.writing and time.monotonic() < ends:
        time.sleep(0.005)
    return not engine.writing


def greedy_tokens_of_genai(path: Path, prompt: str, most: int) -> list[int]:
    import onnxruntime_genai as genai

    config = genai.Config(str(path))
    # With the model's own token for padding the library takes it for padding in prompts, and writes what the model
    # would not: test_genai_writes_what_the_reference_writes holds the prompt that has it against transformers.
    vocabulary = json.loads((path / "genai_config.json").read_text())["model"]["vocab_size"]
    config.overlay(json.dumps({"model": {"pad_token_id": vocabulary - 1}}))
    model = genai.Model(config)
    tokenizer = genai.Tokenizer(model)
    tokens = tokenizer.encode(prompt)
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=len(tokens) + most)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(tokens)
    found: list[int] = []
    while not generator.is_done() and len(found) < most:
        generator.generate_next_token()
        found.append(int(generator.get_next_tokens()[0]))
    ends = [int(token) for token in tokenizer.eos_token_ids]
    return found[:-1] if found[-1] in ends else found


def greedy_tokens_of_transformers(path: Path, prompt: str, most: int) -> list[int]:
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    tokens = tokenizer(prompt, return_tensors="pt")
    found = model.generate(**tokens, do_sample=False, max_new_tokens=most)[0, tokens["input_ids"].shape[1] :].tolist()
    return found[:-1] if found[-1] == tokenizer.eos_token_id else found


def tokens_that_were_written(engine: Any, monkeypatch: pytest.MonkeyPatch, requests: list[Any]) -> list[list[int]]:
    """The tokens themselves: a text can come from several."""
    answers = in_threads(engine, [replaced(request) for request in requests])
    return [[piece.logprobs[0].token for piece in pieces] for _, _, pieces in answers]  # type: ignore[index, misc]


def replaced(request: GenerationRequest) -> GenerationRequest:
    import msgspec

    return msgspec.structs.replace(request, logprobs=0)


def library_text(tokens: list[int], path: Path) -> str:
    made = transformers.AutoTokenizer.from_pretrained(path)
    return str(made.decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_of_genai_is_the_librarys_own(onnx: Path, folder: Path, prompt: str) -> None:
    direct = greedy_tokens_of_genai(onnx, prompt, 40)
    with closing(opened(onnx, GENAI)) as engine:
        text, finish, _ = written(engine, asked(prompt, 40))
        assert (finish.completion_tokens, text) == (len(direct), genai_text(onnx, direct))
        assert finish.reason == ("length" if len(direct) == 40 else "stop")


def genai_text(path: Path, tokens: list[int]) -> str:
    import onnxruntime_genai as genai

    stream = genai.Tokenizer(genai.Model(str(path))).create_stream()
    return "".join(stream.decode(token) for token in tokens)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_of_transformers_is_the_librarys_own(folder: Path, prompt: str) -> None:
    direct = greedy_tokens_of_transformers(folder, prompt, 40)
    with closing(opened(folder, REFERENCE)) as engine:
        text, finish, _ = written(engine, asked(prompt, 40))
        assert (finish.completion_tokens, text) == (len(direct), library_text(direct, folder))
        assert finish.reason == ("length" if len(direct) == 40 else "stop")


def test_a_graph_with_the_scores_of_the_last_token_alone_writes_the_same(onnx: Path, folder: Path) -> None:
    pruned = tiny.converted(folder, onnx.with_name("pruned"), "fp32", "prune_lm_head=true")
    requests = [asked(prompt, 12) for prompt in PROMPTS[:4]]
    with closing(opened(onnx, GENAI)) as whole, closing(opened(pruned, GENAI)) as engine:
        together = [text for text, _, _ in in_threads(engine, requests)]
        assert together == [written(whole, request)[0] for request in requests]
        assert all(together)


def test_genai_writes_what_the_reference_writes(onnx: Path, folder: Path) -> None:
    with closing(opened(onnx, GENAI)) as one, closing(opened(folder, REFERENCE)) as other:
        for prompt in PROMPTS:
            assert one.prompt_tokens(asked(prompt)) == other.prompt_tokens(asked(prompt))
            text, finish, _ = written(one, asked(prompt, 12))
            wanted, end, _ = written(other, asked(prompt, 12))
            assert finish == end
            # Of bytes that are no character, GenAI's own tokenizer (0.18) also swallows what follows them.
            assert text == wanted or ("\ufffd" in wanted and text.startswith(wanted.partition("\ufffd")[0]))


def test_texts_together_are_those_that_each_gets_alone(engine: Any) -> None:
    requests = [asked(prompt, 20 + 3 * number) for number, prompt in enumerate(PROMPTS)]
    alone = [written(engine, request)[:2] for request in requests]
    for _ in range(3):
        assert [answer[:2] for answer in in_threads(engine, requests)] == alone


def test_what_is_asked_for_together_shares_a_lane(onnx: Path) -> None:
    with closing(opened(onnx, GENAI)) as engine:
        long = engine.generate(asked("The quick", 400))
        next(long)
        sizes: set[int] = set()
        finished = threading.Event()

        def watch() -> None:
            while not finished.is_set():
                sizes.update(len(lane.jobs) for lane in engine._lanes.lanes)

        watcher = threading.Thread(target=watch)
        watcher.start()
        in_threads(engine, [asked(prompt, 60) for prompt in PROMPTS])
        finished.set()
        watcher.join()
        long.close()
        assert max(sizes) > 1
        assert idle(engine)


def test_who_comes_later_does_not_wait_for_the_others(onnx: Path) -> None:
    with closing(opened(onnx, GENAI)) as engine:
        # Each with a lane of its own, and seeds whose texts are long: without one a text may end at once.
        others = [engine.generate(asked("A", 450, temperature=1.0, seed=seed)) for seed in long_seeds(engine, 2)]
        for other in others:
            next(other)
        _, finish, _ = written(engine, asked("Once upon a time", 5))
        assert finish.completion_tokens <= 5
        assert engine.writing == 2  # the first ones still go on
        for other in others:
            other.close()
        assert idle(engine)


def long_seeds(engine: Any, count: int) -> list[int]:
    lengths = {seed: written(engine, asked("A", 450, temperature=1.0, seed=seed))[1] for seed in range(40)}
    return sorted(lengths, key=lambda seed: -lengths[seed].completion_tokens)[:count]


def test_a_prompt_in_parts_is_read_like_one_in_one(onnx: Path) -> None:
    prompt = "the quick brown fox jumps over the lazy dog. " * 40
    direct = greedy_tokens_of_genai(onnx, prompt, 20)
    with closing(opened(onnx, GENAI)) as engine:
        assert engine.prompt_tokens(asked(prompt)) > 256
        assert written(engine, asked(prompt, 20))[0] == genai_text(onnx, direct)


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
    assert written(engine, asked("A", 3))[1].prompt_tokens == 1


def test_texts_that_are_abandoned_at_once_do_not_disturb_their_neighbours(engine: Any) -> None:
    requests = [asked(prompt, 48) for prompt in PROMPTS[:4]]
    alone = [written(engine, request)[:2] for request in requests]
    for cancelled in range(4):
        answers: dict[int, Any] = {}
        barrier = threading.Barrier(4)

        def ask(number: int, cancelled: int = cancelled, answers: Any = answers, barrier: Any = barrier) -> None:
            barrier.wait()
            pieces = engine.generate(requests[number])
            if number == cancelled:
                list(itertools.islice(pieces, 3))
                pieces.close()
                return
            *found, finish = pieces
            answers[number] = ("".join(piece.text for piece in found), finish)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {number: alone[number] for number in range(4) if number != cancelled}
    assert idle(engine)


def test_equal_seeds_give_equal_texts(engine: Any) -> None:
    texts = [written(engine, asked("Once", 24, temperature=1.0, seed=seed))[0] for seed in (7, 7, 8, -7, 1 << 62)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 2
    free = {written(engine, asked("Once", 24, temperature=1.0))[0] for _ in range(4)}
    assert len(free) > 1  # a seed does not outlive its request


def test_sampling_within_the_best_token_is_greedy(engine: Any) -> None:
    greedy = written(engine, asked("Once", 24))[0]
    assert written(engine, asked("Once", 24, temperature=1.5, top_k=1))[0] == greedy
    assert written(engine, asked("Once", 24, temperature=0.001, top_p=0.01))[0] == greedy
    assert written(engine, asked("Once", 24, temperature=1.0, top_k=1 << 20, top_p=1.0))[1].completion_tokens


def test_a_repetition_penalty_changes_the_text(engine: Any) -> None:
    long = asked("the sea the sea the sea", 60)
    assert written(engine, long)[0] != written(engine, replaced_penalty(long))[0]


def replaced_penalty(request: GenerationRequest) -> GenerationRequest:
    import msgspec

    return msgspec.structs.replace(request, repetition_penalty=5.0)


def test_log_probabilities_are_the_models(engine: Any, folder: Path) -> None:
    prompt = "The quick brown fox"
    pieces = written(engine, asked(prompt, 4, logprobs=3))[2]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(prompt, return_tensors="pt")["input_ids"]
    for piece in pieces:
        with torch.inference_mode():
            row = torch.log_softmax(model(tokens).logits[0, -1], dim=-1)
        best = torch.topk(row, 3)
        (found,) = piece.logprobs or ()
        # llama.cpp keeps what it has read in half precision.
        assert found.logprob == pytest.approx(float(best.values[0]), abs=2e-2)
        assert [value for _, value in found.top] == pytest.approx(best.values.tolist(), abs=2e-2)
        assert found.top[0] == (found.token, found.logprob)
        tokens = torch.cat([tokens, best.indices[:1].reshape(1, 1)], dim=1)
    assert all(one.logprobs and one.logprobs[0].top == () for one in written(engine, asked(prompt, 2, logprobs=0))[2])


def test_what_does_not_fit_is_refused_before_anything_is_written(engine: Any) -> None:
    with pytest.raises(RequestError, match="context") as caught:
        next(engine.generate(asked("A", tiny.CONTEXT)))
    assert (caught.value.status, caught.value.param) == (400, "max_tokens")
    with pytest.raises(RequestError, match="context"):
        next(engine.generate(GenerationRequest(prompt="the quick brown fox " * tiny.CONTEXT)))
    with pytest.raises(RequestError, match="characters cannot fit") as caught:
        engine.prompt_tokens(asked("the sea " * (32 * tiny.CONTEXT)))
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(RequestError, match="empty"):
        next(engine.generate(asked("")))
    assert idle(engine)


def test_a_text_may_fill_its_context(engine: Any) -> None:
    prompt = "the sea " * 100
    finish = written(engine, GenerationRequest(prompt=prompt, temperature=1.0, seed=3))[1]
    assert finish.prompt_tokens + finish.completion_tokens <= tiny.CONTEXT
    assert finish.reason == "stop" or finish.prompt_tokens + finish.completion_tokens == tiny.CONTEXT


def test_a_conversation_goes_through_the_models_template(engine: Any, folder: Path) -> None:
    messages = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "A"})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    direct = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    request = GenerationRequest(messages=messages, max_tokens=12, temperature=0.0)
    assert engine.chats
    assert not engine.tools
    assert engine.prompt_tokens(request) == len(tokenizer(direct, add_special_tokens=False)["input_ids"])
    assert written(engine, request)[:2] == written(engine, asked(direct, 12))[:2]
    with pytest.raises(BadInstances, match="no tools here"):
        engine.prompt_tokens(GenerationRequest(messages=({"role": "tool", "content": "A"},)))


def test_any_model_can_be_asked_like_others(engine: Any) -> None:
    options = Options(parameters={"max_tokens": 6, "temperature": 0.0})
    assert engine.predict(["Once upon a time"], options).predictions == [written(engine, asked(PROMPTS[1], 6))[0]]


def test_a_smaller_context_is_kept_to(onnx: Path, folder: Path) -> None:
    for path, name in ((onnx, GENAI), (folder, REFERENCE)):
        with closing(opened(path, name, context=64)) as engine:
            assert engine.context == 64
            with pytest.raises(RequestError):
                next(engine.generate(asked("A", 64)))


def test_json_that_follows_a_schema(onnx: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}
    schema["additionalProperties"] = False
    with closing(opened(onnx, GENAI)) as engine:
        request = asked("A", 200, response_format="json_schema", schema=schema, temperature=1.0)
        for text, finish, _ in [written(engine, request), *in_threads(engine, [request] * 3)]:
            if finish.reason == "stop":
                assert isinstance(json.loads(text)["n"], bool)
            else:
                assert text.lstrip().startswith("{")
        for wrong in ({"type": "string", "pattern": "(("}, {"$ref": "#/x"}):
            with pytest.raises(RequestError, match="schema") as caught:
                next(engine.generate(asked("A", 9, response_format="json_schema", schema=wrong)))
            assert caught.value.param == "response_format"
        with pytest.raises(RequestError, match="bytes"):
            next(engine.generate(asked("A", 9, response_format="json_schema", schema={"enum": ["a" * (1 << 17)]})))
        with pytest.raises(RequestError, match="places"):  # 17 GB of memory, and the end of the process
            next(engine.generate(asked("A", 9, response_format="json_schema", schema={"minItems": 1 << 40})))
        assert idle(engine)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"decoder": {"session_options": {"custom_ops_library": "evil.so"}}}},
        {"model": {"decoder": {"filename": "../../model.onnx"}}},
        {"model": {"decoder": {"filename": "/model.onnx"}}},
    ],
)
def test_a_configuration_names_no_code_and_nothing_outside(onnx: Path, tmp_path: Path, change: Any) -> None:
    path = tmp_path / "model"
    shutil.copytree(onnx, path)
    (path / "genai_config.json").write_text(json.dumps(change))
    with pytest.raises(IntegrityError, match="genai_config"):
        opened(path, GENAI)


def test_a_folder_that_is_no_model_is_an_error_for_people(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "genai_config.json").write_text("{")
    with pytest.raises(StartError, match="JSON"):
        opened(tmp_path, GENAI)
    path = tmp_path / "pickled"
    shutil.copytree(folder, path)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="pickles"):
        opened(path, REFERENCE)
