"""Embeddings of real engines in OpenAI's form: the vectors that the library gives, and its tokens."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

numpy = pytest.importorskip("numpy")
pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

import tiny_transformers as tiny  # noqa: E402
from engine_checks import load  # noqa: E402

from lightship_runtime.host.answering import Answering  # noqa: E402
from lightship_runtime.log import Log  # noqa: E402
from lightship_runtime.payload import Call  # noqa: E402

TEXTS = ["the cat sat", "a dog"]


def ask(answering: Answering, **body: Any) -> dict[str, Any]:
    answer = answering.answer(Call("embeddings", json.dumps(body).encode()))
    assert answer.status == 200, answer.body
    content: dict[str, Any] = json.loads(answer.body)
    return content


@pytest.mark.parametrize(
    ("engine", "make"), [("sentence-transformers", "sentence_encoder"), ("transformers", "encoder")]
)
def test_vectors_and_tokens(tmp_path: Path, engine: str, make: str) -> None:
    path = getattr(tiny, make)(tmp_path / "model")
    task = {} if engine == "sentence-transformers" else {"task": "feature-extraction"}
    loaded = load(path, "huggingface", engine, **task)
    answering = Answering(loaded, "vectors", engine, Log(io.StringIO()))
    from lightship_runtime.engines import Options

    wanted = numpy.asarray(loaded.predict(TEXTS, Options()).predictions, dtype="<f4")
    floats = ask(answering, input=TEXTS, encoding_format="float")
    assert numpy.array_equal(numpy.asarray([one["embedding"] for one in floats["data"]], dtype="<f4"), wanted)
    packed = ask(answering, input=TEXTS, encoding_format="base64", dimensions=wanted.shape[1])
    vectors = [numpy.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4") for one in packed["data"]]
    assert numpy.array_equal(vectors, wanted)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path))
    count = sum(len(tokenizer(text)["input_ids"]) for text in TEXTS)
    assert floats["usage"] == {"prompt_tokens": count, "total_tokens": count}
