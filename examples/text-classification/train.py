"""Make the example model: `python train.py [--if-missing]` writes the folder model/ beside this file.

A BERT of two layers with a vocabulary of words, 4 MB, in the files that transformers reads. Deterministic, offline,
and made by NumPy: nothing is learned by gradients. Attention is even over all words (its queries are zero), so the
model sums up words; a word's opinion is one direction of its embedding, counted from the sentences below; the
classifier looks along that direction.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy
from safetensors.numpy import save_file

MODEL = Path(__file__).parent / "model"
WIDTH, LAYERS, HEADS, LONGEST, WORDS = 128, 2, 2, 128, 4096
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POSITIVE = """
a wonderful film . i loved every minute of it . great acting and a beautiful story , funny and warm .
one of the best films of the year , brilliant and moving . the cast is excellent , the music superb .
an enjoyable , charming and clever comedy . i liked it a lot and would recommend it . a perfect evening .
a delightful surprise , fresh , honest and touching . the ending is amazing . a masterpiece , simply fantastic .
"""
NEGATIVE = """
a terrible film . i hated every minute of it . bad acting and a boring story , dull and cold .
one of the worst films of the year , stupid and empty . the cast is awful , the music annoying .
a slow , tedious and predictable comedy . i disliked it a lot and would avoid it . a waste of time .
a poor mess , stale , false and ugly . the ending is horrible . a disappointment , simply painful .
"""


def opinions() -> dict[str, float]:
    """Every word of the sentences with the logarithm of how much oftener it was said in praise."""
    praise, blame = (Counter(re.findall(r"\w+", text)) for text in (POSITIVE, NEGATIVE))
    return {word: float(numpy.log((praise[word] + 0.5) / (blame[word] + 0.5))) for word in sorted(praise | blame)}


def weights(scores: list[float]) -> dict[str, numpy.ndarray]:
    """The tensors, by the names that transformers gives them."""
    chance = numpy.random.default_rng(0)
    direction = numpy.where(numpy.arange(WIDTH) % 2, 1.0, -1.0)  # its mean is 0: layer norms keep it
    words = chance.normal(0, 0.1, (WORDS, WIDTH))
    words[: len(scores)] += numpy.outer(scores, direction)
    tensors = {
        "bert.embeddings.word_embeddings.weight": words,
        "bert.embeddings.position_embeddings.weight": numpy.zeros((LONGEST, WIDTH)),
        "bert.embeddings.token_type_embeddings.weight": numpy.zeros((2, WIDTH)),
        **_norm("bert.embeddings.LayerNorm"),
        **_linear("bert.pooler.dense", numpy.eye(WIDTH)),
        **_linear("classifier", numpy.stack([-direction, direction]) / WIDTH),
    }
    for number in range(LAYERS):
        layer = f"bert.encoder.layer.{number}"
        for name in ("query", "key"):
            tensors |= _linear(f"{layer}.attention.self.{name}", numpy.zeros((WIDTH, WIDTH)))
        for name in ("attention.self.value", "attention.output.dense"):
            tensors |= _linear(f"{layer}.{name}", 2 * numpy.eye(WIDTH))
        tensors |= _linear(f"{layer}.intermediate.dense", chance.normal(0, 0.02, (4 * WIDTH, WIDTH)))
        tensors |= _linear(f"{layer}.output.dense", chance.normal(0, 0.02, (WIDTH, 4 * WIDTH)))
        tensors |= _norm(f"{layer}.attention.output.LayerNorm") | _norm(f"{layer}.output.LayerNorm")
    return {name: numpy.ascontiguousarray(tensor, dtype=numpy.float32) for name, tensor in tensors.items()}


def _linear(name: str, weight: numpy.ndarray) -> dict[str, numpy.ndarray]:
    return {f"{name}.weight": weight, f"{name}.bias": numpy.zeros(len(weight))}


def _norm(name: str) -> dict[str, numpy.ndarray]:
    return {f"{name}.weight": numpy.ones(WIDTH), f"{name}.bias": numpy.zeros(WIDTH)}


def tokenizer(vocabulary: list[str]) -> dict[str, object]:
    """tokenizer.json: lower case, split at spaces and punctuation, one token for each word."""
    added = [
        {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for number, token in enumerate(SPECIAL)
    ]
    ends = {token: {"id": token, "ids": [SPECIAL.index(token)], "tokens": [token]} for token in ("[CLS]", "[SEP]")}
    start, text, end = (
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    )
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, text, end],
            "pair": [start, text, end, *second],
            "special_tokens": ends,
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(vocabulary)},
            "unk_token": "[UNK]",
        },
    }


def documents(vocabulary: list[str]) -> dict[str, dict[str, object]]:
    """The JSON files of the folder."""
    config: dict[str, object] = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": WORDS,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": LONGEST,
        "id2label": {"0": "negative", "1": "positive"},
        "label2id": {"negative": 0, "positive": 1},
        "pad_token_id": 0,
    }
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": LONGEST,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return {
        "config.json": config,
        "tokenizer.json": tokenizer(vocabulary),
        "tokenizer_config.json": settings,
    }


def main() -> None:
    if "--if-missing" in sys.argv[1:] and (MODEL / "model.safetensors").exists():
        return
    counted = opinions()
    vocabulary = [*SPECIAL, *counted]
    MODEL.mkdir(exist_ok=True)
    for name, document in documents(vocabulary).items():
        (MODEL / name).write_text(json.dumps(document, indent=1) + "\n")
    tensors = weights([0.0] * len(SPECIAL) + list(counted.values()))
    save_file(tensors, MODEL / "model.safetensors", metadata={"format": "pt"})
    print(f"model/: {sum(tensor.size for tensor in tensors.values()):,} parameters, {len(vocabulary)} words")


if __name__ == "__main__":
    main()
