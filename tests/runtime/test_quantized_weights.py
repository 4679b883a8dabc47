"""Weights that transformers loads with fewer bits: how large they are, and that the model still writes its texts."""

from __future__ import annotations

import builtins
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_checks import load

from lightship_runtime.errors import StartError
from lightship_runtime.generation.request import Finish, GenerationRequest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("jinja2")
import tiny_language as tiny  # noqa: E402

ENGINE = "transformers-generation"
PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.language_model(tmp_path_factory.mktemp("models") / "tiny")


def opened(folder: Path, bits: str | None) -> Any:
    return load(folder, "huggingface", ENGINE, threads=1, quantize=bits)


def greedy(engine: Any, most: int = 24) -> tuple[str, Finish]:
    *pieces, finish = engine.generate(GenerationRequest(prompt=PROMPT, max_tokens=most, temperature=0.0))
    return "".join(piece.text for piece in pieces), finish


def bytes_of_layers(engine: Any) -> int:
    """Of the matrices within layers, as they lie in memory; scales are left out."""
    layers = (value for name, value in engine._model.named_parameters() if ".layers." in name and value.numel() > 64)
    return sum(value.numel() * value.element_size() for value in layers)


@pytest.mark.parametrize(("bits", "share"), [("4bit", 8), ("8bit", 4)])
def test_weights_take_the_bits_that_are_asked_for_and_texts_repeat(folder: Path, bits: str, share: int) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    with closing(opened(folder, None)) as whole:
        size = bytes_of_layers(whole)
    with closing(opened(folder, bits)) as engine:
        text, finish = greedy(engine)
        assert greedy(engine) == (text, finish)
        assert text.strip()
        assert engine.slots == (8 if bits == "4bit" else 1)
        assert bytes_of_layers(engine) == size // share
        told = engine._model.lm_head.weight
        assert told.dtype == torch.float32  # tables of words stay as they are
        near = distance(engine, folder)
    with closing(opened(folder, bits)) as again:
        assert greedy(again) == (text, finish)
    # A model of random weights takes another turn soon; its scores stay near, nearer with more bits.
    assert near < (0.5 if bits == "4bit" else 0.1)


def distance(engine: Any, folder: Path) -> float:
    """Of the scores of the next token, to those of the whole model, in their own spread."""
    from transformers import AutoModelForCausalLM

    tokens = torch.tensor([engine._tokenizer(PROMPT)["input_ids"]])
    with torch.inference_mode():
        whole = AutoModelForCausalLM.from_pretrained(folder)(tokens).logits
        return float((engine._model(tokens).logits - whole).std() / whole.std())


def test_without_the_library_the_server_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "bitsandbytes":
            raise ModuleNotFoundError("No module named 'bitsandbytes'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StartError, match="4bit weights") as caught:
        opened(folder, "4bit")
    assert "bitsandbytes" in str(caught.value.hint)
