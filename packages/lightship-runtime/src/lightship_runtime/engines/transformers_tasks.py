"""The tasks of transformers' pipelines: what each takes, what it answers, and what a request may ask for.

text-classification   {"label", "score"} of the best label; with probabilities one score per label
token-classification  a list of entities; `aggregation_strategy`: none, simple, first, average or max
feature-extraction    one vector per text, the mean over its tokens; `pooling`: mean, cls, or none for all tokens
zero-shot-classification  {"labels", "scores"}, best first; `candidate_labels`, `multi_label`, `hypothesis_template`
image-classification  {"label", "score"} of the best label; with probabilities one score per label
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lightship_runtime.engines.engine import BadInstances, Instances, Kind, Options, Prediction, Signature, TensorSpec
from lightship_runtime.engines.images import open_images

BATCH = 32  # instances in one pass through the network: padding grows with the longest of them
MAX_LABELS = 200
MAX_TEXT = 1000  # characters of a label or a template
_TEXT_INPUT = (TensorSpec("input", "BYTES", (-1,)),)
_LABELLED = (TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP64", (-1,)))


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        architecture: How the classes are called that are made for it; "" where no folder asks for it by itself.
        kind: What an instance is.
        predict: From a pipeline, instances and options to predictions.
        outputs: As tensors, where they have a fixed form.
        classifies: Whether the model's labels are the classes of its answers.
    """

    architecture: str
    kind: Kind
    predict: Callable[[Any, list[Any], Options], Prediction]
    outputs: tuple[TensorSpec, ...] = ()
    classifies: bool = False

    def signature(self, pipeline: Any) -> Signature:
        """What a loaded pipeline of this task takes and gives."""
        classes = tuple(_labels(pipeline)) if self.classifies else None
        outputs = self.outputs
        if classes:
            outputs = (*outputs, TensorSpec("probabilities", "FP64", (-1, len(classes))))
        if self.architecture == "Model":
            outputs = (TensorSpec("predictions", "FP32", (-1, pipeline.model.config.hidden_size)),)
        return Signature(
            kind=self.kind,
            probabilities=self.classifies,
            classes=classes,
            inputs=_TEXT_INPUT,
            outputs=outputs,
            example="This is a text." if self.kind == "text" else None,
        )


def _classify(pipeline: Any, instances: list[Any], options: Options) -> Prediction:
    """All labels in one pass; the best one is what the pipeline gives by itself."""
    _allowed(options.parameters, ())
    if pipeline.task == "image-classification":
        found = pipeline(open_images(instances), top_k=len(_labels(pipeline)), batch_size=_batch(pipeline, instances))
    else:
        found = pipeline(_texts(instances), top_k=None, truncation=True, batch_size=_batch(pipeline, instances))
    best = [dict(one[0]) for one in found]
    if not options.probabilities:
        return Prediction(best)
    labels = _labels(pipeline)
    scores = [{entry["label"]: entry["score"] for entry in one} for one in found]
    return Prediction(best, [[one[label] for label in labels] for one in scores], labels)


def _tokens(pipeline: Any, instances: list[Any], options: Options) -> Prediction:
    parameters = _allowed(options.parameters, ("aggregation_strategy",))
    strategy = parameters.get("aggregation_strategy", "none")
    if strategy not in ("none", "simple", "first", "average", "max"):
        raise BadInstances("aggregation_strategy is none, simple, first, average or max.")
    texts = _texts(instances)
    found = pipeline(texts, aggregation_strategy=strategy, batch_size=_batch(pipeline, texts))
    return Prediction([[_plain(entity) for entity in entities] for entities in found])


def _embed(pipeline: Any, instances: list[Any], options: Options) -> Prediction:
    import torch

    parameters = _allowed(options.parameters, ("pooling",))
    pooling = parameters.get("pooling", "mean")
    if pooling not in ("mean", "cls", "none"):
        raise BadInstances("pooling is mean, cls or none.")
    texts = _texts(instances)
    parts: list[Any] = []
    lengths: list[int] = []
    size = _batch(pipeline, texts)
    for start in range(0, len(texts), size):
        some = texts[start : start + size]
        tokens = pipeline.tokenizer(some, padding=size > 1, truncation=True, return_tensors="pt")
        hidden = pipeline.model(**tokens.to(pipeline.device))[0]
        counts = tokens["attention_mask"].sum(dim=1).tolist()
        lengths += counts
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        if pooling == "none":
            side = pipeline.tokenizer.padding_side
            parts += [
                (one[:count] if side == "right" else one[len(one) - count :]).float().tolist()
                for one, count in zip(hidden, counts)  # noqa: B905  # one count per text
            ]
            continue
        vectors = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        parts.append(vectors.float().cpu())
    vectors = parts if pooling == "none" else torch.cat(parts).numpy()
    return Prediction(vectors, tokens=lengths if options.tokens else None)


def _zero_shot(pipeline: Any, instances: list[Any], options: Options) -> Prediction:
    parameters = _allowed(options.parameters, ("candidate_labels", "multi_label", "hypothesis_template"))
    labels = parameters.get("candidate_labels")
    if not isinstance(labels, list) or not 0 < len(labels) <= MAX_LABELS or not all(map(_is_short, labels)):
        raise BadInstances(f"`parameters` must have candidate_labels: 1 to {MAX_LABELS} short texts.")
    multi = parameters.get("multi_label", False)
    if not isinstance(multi, bool):
        raise BadInstances("multi_label is true or false.")
    more = {}
    if (template := parameters.get("hypothesis_template")) is not None:
        # It is a format string of Python: anything within the braces could reach into objects.
        if not _is_short(template) or template.count("{}") != 1 or template.count("{") + template.count("}") != 2:
            raise BadInstances("hypothesis_template is a short text with {} in it, once.")
        more["hypothesis_template"] = template
    texts = _texts(instances)
    found = pipeline(texts, candidate_labels=labels, multi_label=multi, batch_size=_batch(pipeline, texts), **more)
    return Prediction([{"labels": one["labels"], "scores": one["scores"]} for one in found])


TASKS: Mapping[str, Task] = {
    "text-classification": Task("ForSequenceClassification", "text", _classify, _LABELLED, classifies=True),
    "token-classification": Task("ForTokenClassification", "text", _tokens),
    "image-classification": Task("ForImageClassification", "image", _classify, _LABELLED, classifies=True),
    "zero-shot-classification": Task("", "text", _zero_shot),
    "feature-extraction": Task("Model", "text", _embed),
}


def _labels(pipeline: Any) -> list[str]:
    """The model's labels, in the order of its outputs."""
    names = pipeline.model.config.id2label
    return [names[number] for number in sorted(names)]


def _batch(pipeline: Any, instances: list[Any]) -> int:
    """How many instances go through the network at once: one where the tokenizer cannot pad."""
    tokenizer = pipeline.tokenizer
    if tokenizer is not None and tokenizer.pad_token_id is None:
        return 1
    return min(BATCH, len(instances))


def _texts(instances: Instances) -> list[str]:
    if not all(isinstance(one, str) for one in instances):
        raise BadInstances("Every instance must be a text.")
    return list(instances)


def _allowed(parameters: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    if unknown := sorted(set(parameters) - set(names)):
        known = f"; it knows {', '.join(names)}" if names else ""
        raise BadInstances(f"This model knows no parameter {unknown[0][:40]!r}{known}.")
    return parameters


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT


def _plain(entity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.item() if hasattr(value, "item") else value for name, value in entity.items()}
