"""How far the answers of a converted model of texts are from the model's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from lightship.optimize.inside.compare import Difference
from lightship_runtime.engines import Engine, Options, Prediction
from lightship_runtime.engines.text_model import TextModel

_SHOWN = 40  # characters of a text
_FEW = 40  # texts


@dataclass(frozen=True)
class Answers:
    """What a model answers to texts, to each question in turn."""

    texts: list[str]
    options: Options
    prediction: Prediction


def answers_of(engine: Engine, model: TextModel, texts: Sequence[str]) -> list[Answers]:
    """Of all texts that the engine answers (some fail where one is longer than they read), whatever may be asked."""
    first = next(_questions(model))

    def answers(some: list[str]) -> bool:
        try:
            engine.predict(some, first)
        except Exception:  # whatever its library raises
            return False
        return True

    known = list(texts) if answers(list(texts)) else [text for text in texts if answers([text])]
    # What a request may ask besides is made of the same output of the same graph.
    asked = ((known if number == 0 else known[:_FEW], options) for number, options in enumerate(_questions(model)))
    return [Answers(some, options, engine.predict(some, options)) for some, options in asked]


def worst_of_texts(answers: Sequence[Answers], converted: Engine, tolerance: float) -> Difference:
    """The worst of all texts and questions.

    Scores may differ by `tolerance`, those that are no probabilities by that share of their size; vectors by that
    share of their length, as the distance between the two; labels and the number of tokens not at all, unless the
    model itself has a tie between two labels.
    """
    worst = Difference(0.0, 0.0, "equal")
    for each in answers:
        got = converted.predict(each.texts, each.options)
        asked = f" ({each.options.parameters})" if each.options.parameters else ""
        if each.prediction.tokens != got.tokens:
            return Difference(math.inf, math.inf, "the number of tokens differs")
        for text, one in zip(each.texts, _differences(each.prediction, got, tolerance), strict=True):
            if one > worst:
                shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
                worst = Difference(one.share, one.value, f"{one.what}, for the text {shown!r}{asked}")
    return worst


def _questions(model: TextModel) -> Iterator[Options]:
    if model.task == "scores":
        yield Options(probabilities=True)
    elif model.task == "tokens":
        for strategy in ("none", "simple", "first", "average", "max"):
            yield Options(parameters={"aggregation_strategy": strategy})
    elif model.task == "states":
        for pooling in ("mean", "cls", "none"):
            yield Options(parameters={"pooling": pooling}, tokens=True)
    else:
        yield Options(tokens=model.prompt is None)  # sentence-transformers leaves the prompt's out of its count
        yield Options(parameters={"normalize": True})
        for name in model.prompts:
            yield Options(parameters={"prompt_name": name})


def _differences(expected: Prediction, got: Prediction, tolerance: float) -> Iterator[Difference]:
    if expected.probabilities is not None and got.probabilities is not None:
        for scores, others, told, other in zip(
            expected.probabilities, got.probabilities, expected.predictions, got.predictions, strict=True
        ):
            yield _of_scores(numpy.array(scores), numpy.array(others), told["label"], other["label"], tolerance)
    elif _are_entities(expected.predictions):
        for one, other in zip(expected.predictions, got.predictions, strict=True):
            yield _of_entities(one, other, tolerance)
    else:
        for one, other in zip(expected.predictions, got.predictions, strict=True):
            yield _of_vectors(numpy.asarray(one), numpy.asarray(other), tolerance)


def _of_scores(expected: Any, got: Any, label: str, other: str, tolerance: float) -> Difference:
    if expected.shape != got.shape or not numpy.isfinite(got).all():
        return _wrong(f"the scores are {got.tolist()} where the model says {expected.tolist()}")
    best, second = expected.argmax(), got.argmax()
    if label != other and expected[best] - expected[second] > 2 * tolerance * max(1.0, abs(expected[best])):
        return _wrong(f"the label is {other!r} where the model says {label!r}")
    distance, allowed = numpy.abs(expected - got), tolerance * numpy.maximum(1.0, numpy.abs(expected))
    place = int((distance / allowed).argmax())
    what = f"a score is {got[place]:.9g} where the model says {expected[place]:.9g}"
    return _measured(what, float(distance[place]), float(allowed[place]))


def _are_entities(predictions: Any) -> bool:
    return isinstance(predictions, list) and all(
        isinstance(part, dict) for parts in predictions for part in parts if isinstance(parts, list)
    )


def _of_entities(expected: list[dict[str, Any]], got: list[dict[str, Any]], tolerance: float) -> Difference:
    plain, others = ([{**one, "score": None} for one in entities] for entities in (expected, got))
    if plain != others:
        wrong = next(
            (pair for pair in zip(plain, others, strict=False) if pair[0] != pair[1]), (len(plain), len(others))
        )
        return _wrong(f"the entities differ: {wrong[1]} where the model says {wrong[0]}")
    scores = [(one["score"], other["score"]) for one, other in zip(expected, got, strict=True)]
    one, other = max(scores, key=lambda pair: abs(pair[0] - pair[1]), default=(0.0, 0.0))
    return _measured(f"a score is {other:.9g} where the model says {one:.9g}", abs(one - other), tolerance)


def _of_vectors(expected: Any, got: Any, tolerance: float) -> Difference:
    if expected.shape != got.shape or not numpy.isfinite(got).all():
        return _wrong(f"a vector has the shape {got.shape} where that of the model has {expected.shape}")
    distance = float(numpy.linalg.norm(expected.astype(float) - got.astype(float)))
    length = float(numpy.linalg.norm(expected.astype(float))) or 1.0
    return _measured("a vector is not that of the model", distance / length, tolerance)


def _measured(what: str, value: float, allowed: float) -> Difference:
    return Difference(value / allowed, value, f"{what}: a difference of {value:.2g}, allowed is {allowed:.2g}")


def _wrong(what: str) -> Difference:
    return Difference(math.inf, math.inf, what)
