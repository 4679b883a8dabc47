"""Models of texts of transformers and sentence-transformers: exported, and taken where they answer the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lightship.optimize.inside.encoder_compare import answers_of, worst_of_texts
from lightship.optimize.inside.encoder_graph import exported
from lightship.optimize.inside.encoder_texts import texts_of
from lightship.optimize.inside.encoder_tokens import Tokens, text_model, tokenizer_file, tokens_of
from lightship.optimize.inside.graph import as_json, with_facts
from lightship.optimize.inside.refusal import Refusal
from lightship_runtime.engines import Engine, Options
from lightship_runtime.engines.converted import SIGNATURE
from lightship_runtime.engines.text_model import TEXT, TOKENIZER
from lightship_runtime.golden import Golden

ENGINES = ("transformers", "sentence-transformers")
_LONG = 20_000  # words: more than encoders read
_LEAVE = "Leave [optimize] onnx out: the model is served as it is."
_ALLOW = (
    "Serve the model as it is (leave [optimize] onnx out), or allow more with [optimize] tolerance (and `tolerance` "
    "in golden.json) where the difference does no harm."
)


@dataclass(frozen=True)
class _Encoder:
    """What is exported.

    Attributes:
        task: What the graph gives, as TextModel's.
        tokens: How texts become its inputs.
        network: The module that has the weights.
        answer: From its inputs by name to its output.
        more: What TextModel says besides.
    """

    task: Literal["scores", "tokens", "states", "vector"]
    tokens: Tokens
    network: Any
    answer: Callable[[dict[str, Any]], Any]
    more: Mapping[str, Any] = field(default_factory=dict)


def converted_encoder(
    original: Engine,
    golden: Golden | None,
    tolerance: float,
    taken: Callable[[bytes], Engine],
    golden_differences: Callable[[Engine], list[str]],
) -> dict[str, Any]:
    """What was compared.

    Args:
        taken: Writes the file, and loads it as the server would.
        golden_differences: What is wrong with an engine's golden answer.

    Raises: `Refusal`.
    """
    encoder = _of_pipeline(original.pipeline) if hasattr(original, "pipeline") else _of_sentences(original)
    file = tokenizer_file(encoder.tokens)
    model = text_model(encoder.task, encoder.tokens, file, **encoder.more)
    # Before the export, which turns the weights into single precision.
    answers = answers_of(original, model, texts_of(encoder.tokens, original.signature, golden))
    proto = exported(encoder.network, encoder.answer, encoder.tokens.names)
    facts = {SIGNATURE: as_json(original.signature), TEXT: as_json(model), TOKENIZER: file}
    converted = taken(with_facts(proto, facts))
    _check_longest(converted)
    worst = worst_of_texts(answers, converted, tolerance)
    if not worst.within:
        raise Refusal(str(worst), _ALLOW)
    if golden is not None and (wrong := golden_differences(converted)):
        raise Refusal(f"the golden answer differs: {wrong[0]}", _ALLOW)
    return {"precision": "single precision", "rows": len(answers[0].texts), "worst": worst.value}


def _check_longest(converted: Engine) -> None:
    """Refuse what would fail over a long text. Raises `Refusal`."""
    try:
        converted.predict(["long " * _LONG], Options())
    except Exception as error:  # of ONNX Runtime, whose errors have no common class
        raise Refusal(
            "the tokenizer does not cut texts off where the model ends, and longer ones make it fail",
            "Write model_max_length, the most tokens of a text, into tokenizer_config.json.",
        ) from error


def _of_pipeline(pipeline: Any) -> _Encoder:
    """A pipeline of transformers."""
    network, tokenizer, config = pipeline.model, pipeline.tokenizer, pipeline.model.config
    taken = inspect.signature(network.forward).parameters

    def prepare(texts: list[str]) -> dict[str, Any]:
        given = tokenizer(texts, truncation=True)
        return {name: given[name] for name in given if name in taken}

    def scores(inputs: dict[str, Any]) -> Any:
        logits = network(**inputs)[0].float()
        # As the pipeline decides it.
        if config.problem_type == "regression":
            return logits
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return logits.sigmoid()
        return logits.softmax(-1)

    if pipeline.task == "text-classification":
        return _Encoder("scores", tokens_of(tokenizer, prepare, config), network, scores)
    if pipeline.task == "feature-extraction":
        tokens = tokens_of(tokenizer, prepare, config)
        return _Encoder("states", tokens, network, lambda inputs: network(**inputs)[0])
    if pipeline.task == "token-classification":
        labels = tuple(config.id2label[number] for number in sorted(config.id2label))
        more = {"labels": labels, "unknown": tokenizer.unk_token_id}
        tokens = tokens_of(tokenizer, prepare, config)
        return _Encoder("tokens", tokens, network, lambda inputs: network(**inputs)[0].float().softmax(-1), more)
    raise Refusal(f"models for {pipeline.task} are not converted", _LEAVE)


def _of_sentences(original: Any) -> _Encoder:
    """A SentenceTransformer: its network, and what comes after it."""
    model = original.model
    prepare = getattr(model, "preprocess", None) or model.tokenize  # of version 5.4; before
    if not callable(getattr(model, "tokenizer", None)):
        raise Refusal("its texts are no affair of a tokenizer of transformers", _LEAVE)
    prompts = {name: text for name, text in (model.prompts or {}).items() if isinstance(text, str)}
    if prompts and any(getattr(module, "include_prompt", True) is False for module in model):
        raise Refusal("its vectors leave out the tokens of the prompt", _LEAVE)
    size = getattr(model, "truncate_dim", None)

    def vector(inputs: dict[str, Any]) -> Any:
        return model(dict(inputs))["sentence_embedding"][:, :size]

    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    tokens = tokens_of(model.tokenizer, prepare, config)
    chosen = {"prompts": prompts, "prompt": model.default_prompt_name}
    return _Encoder("vector", tokens, model, vector, chosen)
