"""Pipelines of transformers and sentence-transformers: bit for bit what the libraries give, with tiny real models."""

import io
from pathlib import Path
from typing import Any

import numpy
import pytest
from engine_checks import load, same

from lightship_runtime.engines import BadInstances, Engine, Options, TensorSpec
from lightship_runtime.errors import IntegrityError, StartError

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
import tiny_transformers as tiny  # noqa: E402

TEXTS = ["good cat", "bad dog the is a text", "red"]
BOTH = Options(probabilities=True)


def loaded(path: Path, **more: Any) -> Engine:
    return load(path, "huggingface", "transformers", **more)


@pytest.mark.parametrize("text", TEXTS)
def test_text_classification(tmp_path: Path, text: str) -> None:
    path = tiny.text_classifier(tmp_path / "model")
    engine = loaded(path)
    direct = transformers.pipeline("text-classification", model=str(path))
    (found,) = engine.predict([text], Options()).predictions
    assert found == direct(text)[0]
    prediction = engine.predict([text], BOTH)
    scores = {entry["label"]: entry["score"] for entry in direct(text, top_k=None)}
    assert prediction.classes == ["negative", "neutral", "positive"]
    assert prediction.probabilities == [[scores[label] for label in prediction.classes]]
    assert engine.signature.classes == ("negative", "neutral", "positive")
    assert engine.signature.example == "This is a text."


def test_a_batch_is_as_the_pipelines_batch(tmp_path: Path) -> None:
    path = tiny.text_classifier(tmp_path / "model")
    direct = transformers.pipeline("text-classification", model=str(path))
    engine = loaded(path)
    assert engine.predict(TEXTS, Options()).predictions == direct(TEXTS, batch_size=3)
    long = "good cat " * 500  # beyond what the model takes
    assert engine.predict([long], Options()).predictions == direct([long], truncation=True)


def test_token_classification(tmp_path: Path) -> None:
    path = tiny.token_classifier(tmp_path / "model")
    engine = loaded(path)
    direct = transformers.pipeline("token-classification", model=str(path))
    text = "Anna lives in Rome ."
    (found,) = engine.predict([text], Options()).predictions
    assert found == [{**entity, "score": entity["score"].item()} for entity in direct(text)]
    (found,) = engine.predict([text], Options(parameters={"aggregation_strategy": "simple"})).predictions
    wanted = direct(text, aggregation_strategy="simple")
    assert found == [{**entity, "score": entity["score"].item()} for entity in wanted]
    for wrong in ({"aggregation_strategy": "all"}, {"other": 1}):
        with pytest.raises(BadInstances):
            engine.predict([text], Options(parameters=wrong))


def test_feature_extraction(tmp_path: Path) -> None:
    path = tiny.encoder(tmp_path / "model")
    engine = loaded(path)
    direct = transformers.pipeline("feature-extraction", model=str(path))
    tokens = numpy.array(direct(TEXTS[1])[0], dtype=numpy.float32)
    (found,) = engine.predict([TEXTS[1]], Options(parameters={"pooling": "none"})).predictions
    assert same(numpy.array(found, dtype=numpy.float32), tokens)
    assert same(engine.predict([TEXTS[1]], Options(parameters={"pooling": "cls"})).predictions[0], tokens[0])
    mean = torch.from_numpy(tokens).sum(0) / len(tokens)
    assert same(engine.predict([TEXTS[1]], Options()).predictions[0], mean.numpy())
    batch = engine.predict(TEXTS, Options(parameters={"pooling": "none"})).predictions
    assert [len(one) for one in batch] == [4, 8, 3]
    assert engine.predict(TEXTS, Options()).predictions.shape == (3, 32)
    assert engine.signature.outputs == (TensorSpec("predictions", "FP32", (-1, 32)),)


def test_zero_shot(tmp_path: Path) -> None:
    path = tiny.text_classifier(tmp_path / "model", ("contradiction", "neutral", "entailment"))
    engine = loaded(path, task="zero-shot-classification")
    direct = transformers.pipeline("zero-shot-classification", model=str(path))
    more = {"candidate_labels": ["cat", "dog"], "multi_label": True, "hypothesis_template": "this is about {}"}
    (found,) = engine.predict([TEXTS[0]], Options(parameters=more)).predictions
    wanted = direct(TEXTS[0], **more)
    assert found == {"labels": wanted["labels"], "scores": pytest.approx(wanted["scores"], rel=1e-6)}
    (single,) = engine.predict([TEXTS[0]], Options(parameters={"candidate_labels": ["cat"]})).predictions
    wanted = direct(TEXTS[0], candidate_labels=["cat"])
    assert single == {"labels": wanted["labels"], "scores": wanted["scores"]}
    for wrong in (
        {},
        {"candidate_labels": "cat"},
        {"candidate_labels": []},
        {"candidate_labels": ["cat"], "multi_label": 1},
        {"candidate_labels": ["cat"], "hypothesis_template": "{0.__class__}"},
        {"candidate_labels": ["cat"], "hypothesis_template": "{} {x}"},
        {"candidate_labels": ["x"] * 1000},
    ):
        with pytest.raises(BadInstances):
            engine.predict([TEXTS[0]], Options(parameters=wrong))


def test_image_classification(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    path = tiny.image_classifier(tmp_path / "model")
    engine = loaded(path)
    direct = transformers.pipeline("image-classification", model=str(path))
    image = image_module.fromarray(numpy.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=numpy.uint8))
    file = io.BytesIO()
    image.save(file, "PNG")
    assert engine.signature.kind == "image"
    assert engine.predict([file.getvalue()], Options()).predictions == direct(image, top_k=1)
    both = engine.predict([file.getvalue()] * 2, BOTH)
    assert both.classes == ["cat", "dog"] and len(both.probabilities or ()) == 2
    for wrong in (b"no image", file.getvalue()[:200], b"", "text", b"%PDF-1.4", b"P6 99999999 99999999 255\n"):
        with pytest.raises(BadInstances):
            engine.predict([wrong], Options())


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    import struct
    import zlib

    from lightship_runtime.engines.images import open_images

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(BadInstances):
        open_images([b"\x89PNG\r\n\x1a\n" + chunk])


def test_a_task_that_is_not_served_is_said(tmp_path: Path) -> None:
    path = tiny.encoder(tmp_path / "model")
    with pytest.raises(StartError, match="text-generation"):
        loaded(path, task="text-generation")


def test_pickled_weights_need_trust(tmp_path: Path) -> None:
    path = tiny.text_classifier(tmp_path / "model")
    from safetensors.torch import load_file

    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match="pickles"):
        loaded(path)
    with pytest.warns(UserWarning, match="pickled weights"):
        engine = loaded(path, trust=True)
    assert engine.signature.classes is not None


def test_sentence_transformers(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    path = tiny.sentence_encoder(tmp_path / "model")
    engine = load(path, "huggingface", "sentence-transformers")
    direct = library.SentenceTransformer(str(path))
    assert same(engine.predict(TEXTS, Options()).predictions, direct.encode(TEXTS))
    unit = engine.predict(TEXTS, Options(parameters={"normalize": True})).predictions
    assert same(unit, direct.encode(TEXTS, normalize_embeddings=True))
    assert engine.signature.outputs == (TensorSpec("predictions", "FP32", (-1, 32)),)
    for wrong in ({"normalize": "yes"}, {"prompt_name": "none"}, {"other": 1}):
        with pytest.raises(BadInstances):
            engine.predict(TEXTS, Options(parameters=wrong))
