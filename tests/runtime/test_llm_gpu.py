"""Language models on a real GPU: that they are there, write what the library writes, and give back what they took."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_checks import load

from lightship_runtime.generation.request import Finish, GenerationRequest

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytest.importorskip("jinja2")
import tiny_language as tiny  # noqa: E402

pytestmark = pytest.mark.gpu

PROMPTS = ("The quick brown fox", "Once upon a time", "A", "lazy dog. " * 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of 64 numbers, which every kernel of attention takes, and 16 bits a number."""
    path = tiny.language_model(tmp_path_factory.mktemp("models") / "tiny", heads=2, hidden=128)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    model.save_pretrained(path)
    return path


def asked(prompt: str, most: int = 24, **more: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, max_tokens=most, **{"temperature": 0.0, **more})


def written(engine: Any, request: GenerationRequest) -> tuple[str, Finish]:
    *pieces, finish = engine.generate(request)
    return "".join(piece.text for piece in pieces), finish


@pytest.fixture(scope="module")
def reference(folder: Path) -> Iterator[Any]:
    with closing(load(folder, "huggingface", "transformers-generation")) as made:
        yield made


def test_transformers_writes_on_the_gpu_what_its_own_generate_writes(reference: Any, folder: Path) -> None:
    assert reference._model.device.type == "cuda"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").to("cuda")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for prompt in PROMPTS:
        tokens = tokenizer(prompt, return_tensors="pt").to("cuda")
        made = model.generate(**tokens, do_sample=False, max_new_tokens=24)[0, tokens["input_ids"].shape[1] :]
        assert written(reference, asked(prompt))[0] == tokenizer.decode(made, skip_special_tokens=True)


def test_abandoned_texts_give_the_gpus_memory_back(reference: Any) -> None:
    written(reference, asked("A", 400, temperature=1.0))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for number in range(30):
        pieces = reference.generate(asked(PROMPTS[number % 3], 400, temperature=1.0))
        next(pieces)
        pieces.close()
    written(reference, asked("A", 1))  # behind all of them
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() - before < 4 << 20


@pytest.fixture
def small_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTSHIP_VLLM_ARGS", "--gpu-memory-utilization 0.2")


@pytest.mark.usefixtures("small_share")
@pytest.mark.parametrize("quantize", [None, "8bit"])
def test_vllm_compiles_and_writes_many_texts_at_once(folder: Path, quantize: str | None) -> None:
    pytest.importorskip("vllm")
    with closing(load(folder, "huggingface", "vllm", quantize=quantize)) as engine:
        assert not engine._llm.model_config.enforce_eager
        alone = written(engine, asked(PROMPTS[0]))
        assert alone[1].completion_tokens > 0
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(written(engine, asked(PROMPTS[0], 24, seed=1))))
            for _ in range(engine.slots)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == engine.slots
        # Batches of another size may round otherwise in 16 bits, and take another turn at some token.
        assert all(finish.prompt_tokens == alone[1].prompt_tokens for _, finish in answers)
