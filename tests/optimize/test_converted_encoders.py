"""Encoders of transformers and sentence-transformers as ONNX: the same answers without PyTorch, or a refusal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightship_runtime.config import EngineName, ModelFile
from lightship_runtime.engines import BadInstances, Engine, ModelSource, Options, find_engine
from lightship_runtime.payload import Call, ServedModel, encode, parse

for package in ("torch", "transformers", "onnxscript", "tokenizers"):
    pytest.importorskip(package)
sys.path.append(str(Path(__file__).parents[1] / "runtime"))

import tiny_transformers  # noqa: E402

from lightship.optimize.inside.accept import Request, accepted  # noqa: E402
from lightship.optimize.inside.refusal import Refusal  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's exporter about itself
TEXTS = ["this is a good text", "bad", "", "Anna lives in Rome. " * 40, "the cat , the dog {} and 猫", "red\tblue\n"]


def loaded(work: Path, path: str, engine: EngineName, task: str | None = None) -> Engine:
    model = ModelFile(path, "onnx" if path.endswith(".onnx") else "huggingface", engine, task=task)
    return find_engine(engine).load(ModelSource(model, work / path, 1))


def converted(
    make: Callable[[Path], Path], engine: EngineName, work: Path, *, tolerance: float = 1e-5, golden: Any = None
) -> tuple[Engine, Engine, dict[str, Any]]:
    """The engine before and after, and the report."""
    for folder in ("app/model", "out"):
        (work / folder).mkdir(parents=True)
    make(work / "app" / "model")
    if golden is not None:
        (work / "golden.json").write_bytes(msgspec.json.encode(golden))
    request = Request(ModelFile("model", "huggingface", engine), golden is not None, tolerance)
    report = accepted(request, work)
    return loaded(work / "app", "model", engine), loaded(work / "out", "model.onnx", "onnxruntime-text"), report


def answer(engine: Engine, body: Any, protocol: Any = "predict") -> Any:
    """As the server would."""
    model = ServedModel("model", engine.signature)
    asked = parse(Call(protocol, msgspec.json.encode(body)), model)
    return msgspec.json.decode(encode(asked, engine.predict(asked.instances, asked.options), model).body)


def test_a_text_classifier_answers_as_before(tmp_path: Path) -> None:
    original, now, report = converted(tiny_transformers.text_classifier, "transformers", tmp_path)
    assert report["rows"] > 100
    assert report["worst"] <= 1e-5
    assert now.signature == original.signature
    before, after = (answer(each, {"instances": TEXTS, "predict_proba": True}) for each in (original, now))
    assert after["classes"] == before["classes"] == ["negative", "neutral", "positive"]
    for one, other in zip(before["predictions"], after["predictions"], strict=True):
        assert other == {"label": one["label"], "score": pytest.approx(one["score"], abs=1e-6)}
    for scores, others in zip(before["probabilities"], after["probabilities"], strict=True):
        assert others == pytest.approx(scores, abs=1e-6)


def test_a_plain_encoder_pools_as_before(tmp_path: Path) -> None:
    original, now, _ = converted(tiny_transformers.encoder, "transformers", tmp_path)
    assert now.signature == original.signature
    for pooling in ("mean", "cls", "none"):
        options = Options(parameters={"pooling": pooling}, tokens=True)
        before, after = original.predict(TEXTS, options), now.predict(TEXTS, options)
        assert after.tokens == before.tokens
        for one, other in zip(before.predictions, after.predictions, strict=True):
            assert (
                [list(row) for row in other] == [pytest.approx(list(row), abs=1e-5) for row in one]
                if (pooling == "none")
                else list(other) == pytest.approx(list(one), abs=1e-5)
            )
    with pytest.raises(BadInstances, match="pooling is"):
        now.predict(["a"], Options(parameters={"pooling": "max"}))
    with pytest.raises(BadInstances, match="knows no parameter 'normalize'"):
        now.predict(["a"], Options(parameters={"normalize": True}))


def test_sentence_vectors_are_the_same_over_both_ways(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    original, now, _ = converted(tiny_transformers.sentence_encoder, "sentence-transformers", tmp_path)
    assert now.signature == original.signature
    body = {"input": [text for text in TEXTS if text], "model": "model"}
    before, after = answer(original, body, "embeddings"), answer(now, body, "embeddings")
    assert after["usage"] == before["usage"]
    for one, other in zip(before["data"], after["data"], strict=True):
        assert other["embedding"] == pytest.approx(one["embedding"], abs=1e-5)
    body = {"instances": TEXTS, "parameters": {"normalize": True}}
    for one, other in zip(answer(original, body)["predictions"], answer(now, body)["predictions"], strict=True):
        assert other == pytest.approx(one, abs=1e-5)
        assert sum(value * value for value in other) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("tokenizer", ["words", "pieces"])
def test_entities_are_the_same_in_every_strategy(tokenizer: str, tmp_path: Path) -> None:
    def make(path: Path) -> Path:
        tiny_transformers.token_classifier(path)
        if tokenizer == "pieces":
            cut_into_pieces(path)
        return path

    original, now, _ = converted(make, "transformers", tmp_path)
    assert now.signature == original.signature
    seen = 0
    for strategy in ("none", "simple", "first", "average", "max"):
        body = {"instances": TEXTS, "parameters": {"aggregation_strategy": strategy}}
        before, after = answer(original, body)["predictions"], answer(now, body)["predictions"]
        for one, other in zip(before, after, strict=True):
            assert other == [{**entity, "score": pytest.approx(entity["score"], abs=1e-6)} for entity in one]
            seen += len(one)
    assert seen > 20
    with pytest.raises(BadInstances, match="aggregation_strategy is"):
        now.predict(["a"], Options(parameters={"aggregation_strategy": "last"}))


def cut_into_pieces(path: Path) -> None:
    """The same numbers of tokens, of which some are pieces that continue a word."""
    from tokenizers import Tokenizer, decoders, models

    file = path / "tokenizer.json"
    made = Tokenizer.from_file(str(file))
    words = sorted(made.get_vocab(), key=made.get_vocab().__getitem__)
    pieces = {word: number for number, word in enumerate(words)}
    for number, letter in enumerate("abdegilnostx", 5):
        pieces = {word: each for word, each in pieces.items() if each != number}
        pieces["##" + letter] = number
    made.model = models.WordPiece(pieces, unk_token="[UNK]")
    made.decoder = decoders.WordPiece()
    made.save(str(file))


def test_a_model_that_fails_over_long_texts_has_to_say_its_length(tmp_path: Path) -> None:
    def unlimited(path: Path) -> Path:
        """A RoBERTa, which reads two tokens fewer than it has positions."""
        from transformers import RobertaConfig, RobertaForSequenceClassification

        tiny_transformers.text_classifier(path)
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        config = RobertaConfig(vocab_size=40, max_position_embeddings=40, pad_token_id=0, **sizes)
        RobertaForSequenceClassification(config).save_pretrained(path)
        settings = msgspec.json.decode((path / "tokenizer_config.json").read_bytes())
        del settings["model_max_length"]
        (path / "tokenizer_config.json").write_bytes(msgspec.json.encode(settings))
        return path

    with pytest.raises(Refusal, match="does not cut texts off where the model ends"):
        converted(unlimited, "transformers", tmp_path)


def test_another_golden_answer_is_refused(tmp_path: Path) -> None:
    golden = {"request": ["bad"], "response": {"predictions": [{"label": "no such"}]}}
    with pytest.raises(Refusal, match="does not give the golden answer even before"):
        converted(tiny_transformers.text_classifier, "transformers", tmp_path, golden=golden)


def test_what_differs_by_more_than_the_tolerance_is_refused_with_the_difference(tmp_path: Path) -> None:
    def halved(path: Path) -> Path:
        """Weights of half precision, which transformers computes in and the graph does not."""
        import torch
        from transformers import BertForSequenceClassification

        tiny_transformers.text_classifier(path)
        model = BertForSequenceClassification.from_pretrained(path).to(torch.bfloat16)
        model.classifier.weight.data *= 50
        model.save_pretrained(path)
        return path

    with pytest.raises(Refusal, match=r"a score is .* where the model says .* a difference of .*, allowed is 1e-05"):
        converted(halved, "transformers", tmp_path)
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "app")
    assert converted(halved, "transformers", tmp_path, tolerance=0.1)[2]["worst"] > 1e-5


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        converted(tiny_transformers.text_classifier, "transformers", tmp_path / name)
    first, second = ((tmp_path / name / "out" / "model.onnx").read_bytes() for name in ("one", "two"))
    assert first == second
