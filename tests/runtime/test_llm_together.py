"""Texts of transformers that share steps: each is what `generate()` writes for it alone, whatever the others do."""

from __future__ import annotations

import gc
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
from engine_texts import at_once

from lightship_runtime.engines.transformers_families import _FAMILIES, SLOTS, texts_at_once
from lightship_runtime.engines.transformers_linear import quicken
from lightship_runtime.engines.transformers_rows import RowCache
from lightship_runtime.engines.transformers_text import Job
from lightship_runtime.generation.handover import Handover
from lightship_runtime.generation.request import Finish, GenerationRequest

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytest.importorskip("jinja2")
import tiny_language as tiny  # noqa: E402

PATIENCE = 30  # seconds until which something must have happened; it takes a step of the model
SENTENCES = "The quick brown fox jumps over the lazy dog. Once upon a time there was a ship of light on the sea. "
PROMPTS = [
    "The quick brown fox",
    SENTENCES * 11,  # read in parts
    "A",
    "ship <|end|> of <|end|> light",
    "Grüße 🙂 日本",
    "the sea " * 30,
    "lazy dog. " * 9,
    "Once upon a time",
]
# What a family needs to be tiny beside the sizes that all share.
FAMILIES: dict[str, dict[str, Any]] = {
    "Cohere": {},
    "Gemma": {"head_dim": 16},
    "Glm": {"head_dim": 16},
    "GPT2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": tiny.CONTEXT},
    "GPTNeoX": {},
    "Granite": {},
    "Llama": {},
    "Mistral": {"sliding_window": None},
    "Mixtral": {"num_local_experts": 4, "sliding_window": None},
    "Olmo": {},
    "Olmo2": {},
    "Phi": {},
    "Phi3": {},
    "Qwen2": {},
    "Qwen2Moe": {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "Qwen3": {"head_dim": 16},
    "Qwen3Moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "SmolLM3": {},
    "StableLm": {},
    "Starcoder2": {"sliding_window": None},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.language_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    with closing(opened(folder)) as made:
        yield made


@pytest.fixture(scope="module")
def endless(folder: Path) -> Iterator[Any]:
    """The same model, but no token of its vocabulary ends a text."""
    path = shutil.copytree(folder, folder.with_name("endless"))
    told = json.loads((path / "generation_config.json").read_text())
    (path / "generation_config.json").write_text(json.dumps({**told, "eos_token_id": 1 << 20}))
    with closing(opened(path)) as made:
        yield made


def opened(path: Path, **more: Any) -> Any:
    return load(path, "huggingface", "transformers-generation", threads=1, **more)


def asked(prompt: str, most: int = 32, **more: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, max_tokens=most, **{"temperature": 0.0, "logprobs": 0, **more})


def tokens_of(engine: Any, request: GenerationRequest) -> list[str]:
    *pieces, finish = engine.generate(request)
    assert isinstance(finish, Finish)
    return [piece.logprobs[0].token for piece in pieces if piece.tokens]


def together(engine: Any, requests: list[GenerationRequest]) -> list[list[str]]:
    return at_once(len(requests), lambda number: tokens_of(engine, requests[number]))


def by_generate(path: Path, prompt: str, most: int, **options: Any) -> list[str]:
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    given = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    found = model.generate(**given, max_new_tokens=most, **options)[0, given["input_ids"].shape[1] :].tolist()
    return [tokenizer.decode([token]) for token in found if token != tokenizer.eos_token_id]


def until(holds: Any) -> bool:
    ends = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < ends:
        time.sleep(0.002)
    return bool(holds())


def test_every_family_is_tested() -> None:
    assert {f"{name}LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM" for name in FAMILIES} == _FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_texts_together_are_those_of_generate(family: str, folder: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": tiny.CONTEXT,
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    if family in ("GPT2", "GPTNeoX"):
        del sizes["num_key_value_heads"]
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**{**sizes, **FAMILIES[family]})
    name = f"{family}LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    getattr(transformers, name)(config).eval().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    lengths = [12 + 5 * number for number in range(len(PROMPTS))]
    with closing(opened(tmp_path)) as engine:
        assert engine.slots == SLOTS == texts_at_once(name)
        found = together(engine, [asked(prompt, most) for prompt, most in zip(PROMPTS, lengths, strict=True)])
    for prompt, most, tokens in zip(PROMPTS, lengths, found, strict=True):
        assert tokens == by_generate(tmp_path, prompt, most, do_sample=False)


def test_a_newcomer_joins_while_others_write(endless: Any) -> None:
    others = [endless.generate(asked("A", 500)) for _ in range(3)]
    for other in others:
        next(other)
    assert tokens_of(endless, asked("Once upon a time", 5))
    assert endless.writing == 3  # the first ones still go on
    for other in others:
        other.close()
    assert until(lambda: not endless.writing)


def test_a_long_prompt_does_not_hold_up_a_short_one(engine: Any) -> None:
    seen = Passes(engine)
    long = engine.generate(asked("the sea " * 200, 5))
    reading = threading.Thread(target=lambda: list(long))
    with seen:
        reading.start()
        assert until(lambda: engine.writing)
        assert tokens_of(engine, asked("A", 2))
        reading.join()
    # Between parts of the long prompt there was a step of the other's text.
    widths = [width for _, width in seen.passes]
    parts = [place for place, width in enumerate(widths) if width > 64]
    assert len(parts) > 1
    assert max(rows * width for rows, width in seen.passes) <= 256


class Passes:
    """Rows and tokens of each row of what the model computes; may be told to fail."""

    def __init__(self, engine: Any, fails: Any = lambda _tokens: False) -> None:
        self._model = engine._model
        self._fails = fails
        self.passes: list[tuple[int, int]] = []

    def __enter__(self) -> Passes:
        self._hook = self._model.register_forward_pre_hook(self._see, with_kwargs=True)
        return self

    def __exit__(self, *_error: object) -> None:
        self._hook.remove()

    def _see(self, _model: Any, _args: Any, named: dict[str, Any]) -> None:
        tokens = named["input_ids"]
        self.passes.append((tokens.shape[0], tokens.shape[1]))
        if self._fails(tokens):
            raise MemoryError("as told")


@pytest.mark.parametrize("seed", [1, 7, -7])
def test_a_seed_gives_the_same_text_alone_and_in_company(engine: Any, folder: Path, seed: int) -> None:
    options = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.1}
    requests = [asked(prompt, 30, seed=seed, **options) for prompt in PROMPTS]
    alone = [tokens_of(engine, request) for request in requests]
    for _ in range(2):
        assert together(engine, requests) == alone
    torch.manual_seed(seed % (1 << 63))
    assert alone[0] == by_generate(folder, PROMPTS[0], 30, do_sample=True, **options)


def test_settings_of_each_text_are_its_own(engine: Any) -> None:
    requests = [
        asked(PROMPTS[0], 30),
        asked(PROMPTS[0], 30, repetition_penalty=5.0),
        asked(PROMPTS[0], 30, temperature=1.5, seed=1),
        asked(PROMPTS[0], 30, temperature=0.5, top_k=3, seed=1, logprobs=2),
    ]
    alone = [tokens_of(engine, request) for request in requests]
    assert len({tuple(tokens) for tokens in alone}) == 4
    assert together(engine, requests) == alone


def test_a_cancelled_text_frees_its_row_within_a_step(endless: Any) -> None:
    first, other = (endless.generate(asked("A", 500)) for _ in range(2))
    next(first)
    next(other)
    with Passes(endless) as seen:
        assert until(lambda: (2, 1) in seen.passes)
        other.close()
        closed = len(seen.passes)
        assert until(lambda: len(seen.passes) > closed + 2)
        # One may have begun before it was closed, and another between closing and counting.
        assert (2, 1) not in seen.passes[closed + 1 :]
    first.close()
    assert until(lambda: not endless.writing)


def test_a_hundred_cancelled_readers_leave_nothing(endless: Any) -> None:
    threads = threading.active_count()
    alone = tokens_of(endless, asked(PROMPTS[0], 40))
    for number in range(100):
        pieces = endless.generate(asked("A", 500))
        next(pieces)
        if number % 10 == 0:
            assert tokens_of(endless, asked(PROMPTS[0], 40)) == alone
        if number % 2:
            pieces.close()
        del pieces  # lost without a word
    assert until(lambda: not endless.writing and endless._thread._cache.size == (0, 0))
    assert threading.active_count() == threads
    gc.collect()
    # Of keys and values nothing is left: their last dimension is that of a head.
    assert not [one for one in gc.get_objects() if isinstance(one, torch.Tensor) and one.dim() == 4]


def test_what_fails_in_one_prompt_fails_for_it_alone(engine: Any) -> None:
    tokenizer = engine._tokenizer
    bad = tokenizer("ship")["input_ids"][-1]
    good = [prompt for prompt in PROMPTS if bad not in tokenizer(prompt)["input_ids"]]
    alone = [tokens_of(engine, asked(prompt, 12)) for prompt in good]
    requests = [asked(prompt, 12) for prompt in [*good, "ship"]]
    failed = []

    def ask() -> None:
        with pytest.raises(MemoryError, match="as told"):
            tokens_of(engine, requests[-1])
        failed.append(True)

    with Passes(engine, lambda tokens: tokens.shape[1] > 1 and bad in tokens) as seen:
        for _ in range(3):
            one = threading.Thread(target=ask)
            one.start()
            assert together(engine, [*requests[:-1], *requests[:1]]) == [*alone, alone[0]]
            one.join()
    assert len(failed) == 3 or len(tokenizer("ship")["input_ids"]) == 1
    assert seen.passes
    assert until(lambda: not engine.writing)


def test_a_step_that_fails_is_tried_again_for_each_text(engine: Any) -> None:
    requests = [asked(prompt, 20) for prompt in PROMPTS]
    alone = [tokens_of(engine, request) for request in requests]
    with Passes(engine, lambda tokens: tokens.shape[0] > 4) as seen:
        assert together(engine, requests) == alone
    assert max(rows for rows, _ in seen.passes) > 4


def test_what_a_models_own_configuration_says_is_heeded(folder: Path, tmp_path: Path) -> None:
    own = {"do_sample": True, "temperature": 0.6, "top_k": 7, "top_p": 0.9, "repetition_penalty": 1.2, "min_p": 0.01}
    saved(folder, tmp_path, **own)
    with closing(opened(tmp_path)) as engine:
        assert engine.slots == SLOTS
        requests = [asked(prompt, 30, temperature=None, seed=5) for prompt in PROMPTS[:3]]
        found = together(engine, requests)
    for prompt, tokens in zip(PROMPTS, found, strict=False):
        torch.manual_seed(5)
        assert tokens == by_generate(tmp_path, prompt, 30)


def saved(folder: Path, path: Path, **own: Any) -> None:
    """A copy of the model whose own configuration says how to write."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(path)


@pytest.mark.parametrize("own", [{"num_beams": 2}, {"no_repeat_ngram_size": 2}, {"suppress_tokens": [5]}])
def test_what_only_generate_does_is_left_to_it(folder: Path, tmp_path: Path, own: dict[str, Any]) -> None:
    saved(folder, tmp_path, **own)
    with closing(opened(tmp_path)) as engine:
        assert engine.slots == 1
        if "num_beams" not in own:
            found = together(engine, [asked(prompt, 20) for prompt in PROMPTS[:3]])
            assert found == [by_generate(tmp_path, prompt, 20) for prompt in PROMPTS[:3]]


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("Mistral", {"sliding_window": 16}),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}),
        ("OPT", {"ffn_dim": 128, "word_embed_proj_dim": 64}),
    ],
)
def test_models_whose_texts_cannot_share_steps_write_one_at_a_time(
    folder: Path, tmp_path: Path, family: str, more: dict[str, Any]
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tiny.CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **({"intermediate_size": 128, "num_key_value_heads": 2} if family != "OPT" else {}),
        **more,
    )
    getattr(transformers, f"{family}ForCausalLM")(config).eval().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with closing(opened(tmp_path)) as engine:
        assert engine.slots == 1
        found = together(engine, [asked(prompt, 20) for prompt in PROMPTS[:3]])
        assert found == [by_generate(tmp_path, prompt, 20, do_sample=False) for prompt in PROMPTS[:3]]


def test_texts_that_come_and_go_at_any_moment_change_no_other(endless: Any) -> None:
    wanted = tokens_of(endless, asked(PROMPTS[0], 120))
    stop = threading.Event()

    def come_and_go(number: int) -> None:
        for turn in itertools.count(number):
            request = asked(PROMPTS[turn % len(PROMPTS)], 200)
            if turn % 3:
                pieces = endless.generate(request)
                list(itertools.islice(pieces, turn % 7))
                pieces.close()
            else:  # gone before its prompt is read
                job = Job(request, endless._tokenizer(request.prompt)["input_ids"], 200, Handover())
                endless._thread._jobs.put(job)
                time.sleep(0.001 * (turn % 4))
                job.reader.cancelled = True
            if stop.is_set():
                return

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    found = [tokens_of(endless, asked(PROMPTS[0], 120)) for _ in range(4)]
    stop.set()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4
    assert until(lambda: not endless.writing)


def test_an_engine_that_is_closed_tells_who_waits(folder: Path) -> None:
    engine = opened(folder)
    pieces = engine.generate(asked("A", 400))
    next(pieces)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(pieces)


@pytest.mark.parametrize(
    ("processor", "quick"),
    [("AuthenticAMD avx512f", True), ("AuthenticAMD avx2", False), ("GenuineIntel avx512f", False), (None, False)],
)
def test_products_by_another_library_are_the_same(folder: Path, tmp_path: Path, processor: Any, quick: bool) -> None:
    if quick and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    told = tmp_path / "cpuinfo"
    if processor:
        told.write_text(processor)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(requires_grad=False)
    tokens = torch.arange(40).reshape(2, 20)
    wanted = model(tokens).logits
    assert quicken(model, told) == (15 if quick else 0)  # seven in each layer, and the last one
    assert torch.allclose(model(tokens).logits, wanted, atol=1e-4)


def test_rows_have_no_more_room_than_they_need() -> None:
    cache = RowCache(context=1000)

    def keep(rows: list[int], starts: list[int], width: int) -> tuple[Any, Any]:
        cache.fit(max(rows) + 1, max(starts) + width)
        cache.aim(rows, starts, width, "cpu")
        size = (len(rows), 3, width, 4)
        made = torch.arange(len(rows) * 3 * width * 4, dtype=torch.float32).reshape(size) + 1
        return made, cache.update(made, -made, 0)[0]

    made, seen = keep([0], [0], 100)
    assert cache.size == (1, 128)
    assert torch.equal(seen[:, :, :100], made)
    made, seen = keep([0, 1, 2], [100, 0, 0], 200)
    assert cache.size == (4, 384)
    assert torch.equal(seen[0, :, 100:300], made[0])
    assert torch.equal(seen[1, :, :200], made[1])
    cache.swap(0, 2, 300)
    cache.fit(1, 201)
    assert cache.size == (1, 384)
    assert torch.equal(cache._layers[0][0][0, :, :200], made[2])
    keep([0], [990], 10)
    assert cache.size == (1, 1008)  # not half as much again
    cache.fit(1, 100)
    assert cache.size == (1, 128)
    cache.clear()
    assert cache.size == (0, 0)
    assert cache._layers == []
