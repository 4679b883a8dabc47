"""Tiny real models of transformers with random weights, saved as folders: what a hub would hold, in kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = "good bad red blue cat dog the is a text this of about example . , {} Anna lives in Rome".split()


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = dict.fromkeys(special + [word.lower() for word in WORDS])
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def _config(**more: Any) -> Any:
    from transformers import BertConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertConfig(vocab_size=len(WORDS) + 5, max_position_embeddings=64, **sizes, **more)


def _saved(path: Path, model: Any) -> Path:
    model.eval().save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def _labels(names: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def text_classifier(path: Path, labels: tuple[str, ...] = ("negative", "neutral", "positive")) -> Path:
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    return _saved(path, BertForSequenceClassification(_config(**_labels(list(labels)))))


def token_classifier(path: Path) -> Path:
    import torch
    from transformers import BertForTokenClassification

    torch.manual_seed(1)
    return _saved(path, BertForTokenClassification(_config(**_labels(["O", "B-PER", "B-LOC"]))))


def encoder(path: Path) -> Path:
    import torch
    from transformers import BertModel

    torch.manual_seed(2)
    return _saved(path, BertModel(_config()))


def sentence_encoder(path: Path) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    plain = encoder(path.with_name(path.name + "-plain"))
    SentenceTransformer(modules=[Transformer(str(plain)), Pooling(32)], device="cpu").save(str(path))
    return path


def image_classifier(path: Path) -> Path:
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = ViTConfig(image_size=32, patch_size=8, **sizes, **_labels(["cat", "dog"]))
    ViTForImageClassification(config).eval().save_pretrained(path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(path)
    return path
