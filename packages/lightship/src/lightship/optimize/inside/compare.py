"""How far the answers of a converted model are from the model's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import total_ordering
from typing import Any

import numpy

from lightship_runtime.engines import Engine, Options


@total_ordering
@dataclass(frozen=True)
class Difference:
    """The largest difference that was met, as a share of what one is allowed to be (`value` is the difference)."""

    share: float
    value: float
    what: str

    @property
    def within(self) -> bool:
        return self.share <= 1.0

    def __lt__(self, other: Difference) -> bool:
        return self.share < other.share

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True)
class Sample:
    """Rows, and what the model itself answers."""

    rows: list[Any]
    predictions: Any
    probabilities: Any
    classes: list[Any] | None

    @staticmethod
    def of(engine: Engine, rows: list[Any]) -> Sample:
        wanted = engine.signature.probabilities
        answer = engine.predict(rows, Options(probabilities=wanted))
        probabilities = numpy.asarray(answer.probabilities, dtype=float) if wanted else None
        return Sample(rows, numpy.asarray(answer.predictions), probabilities, answer.classes)


def worst_difference(sample: Sample, engine: Engine, tolerance: float) -> Difference:
    """The worst of all rows.

    Probabilities may differ by `tolerance`; numbers that are predicted by `tolerance` of their size, or of the usual
    size (the median) where they are smaller; labels not at all, unless the model itself has a tie between the two.
    """
    answer = engine.predict(sample.rows, Options(probabilities=sample.probabilities is not None))
    got = numpy.asarray(answer.predictions)
    if got.shape != sample.predictions.shape:
        return _wrong(f"the predictions have the shape {got.shape}, those of the model {sample.predictions.shape}")
    worst = Difference(0.0, 0.0, "equal")
    if sample.probabilities is not None:
        if answer.classes != sample.classes:
            return _wrong(f"the classes are {answer.classes}, those of the model {sample.classes}")
        scores = numpy.asarray(answer.probabilities, dtype=float)
        if scores.shape != sample.probabilities.shape:
            shapes = f"{scores.shape}, those of the model {sample.probabilities.shape}"
            return _wrong(f"the probabilities have the shape {shapes}")
        worst = max(worst, _numbers("a probability", sample.probabilities, scores, tolerance, 1.0))
    if sample.predictions.dtype.kind == "f" and sample.probabilities is None:
        usual = float(numpy.median(numpy.abs(sample.predictions))) if sample.predictions.size else 0.0
        return max(worst, _numbers("a prediction", sample.predictions, got, tolerance, usual))
    return max(worst, _labels(sample, got, tolerance))


def _numbers(what: str, expected: Any, got: Any, tolerance: float, usual: float) -> Difference:
    got = got.astype(float)
    if not numpy.array_equal(numpy.isfinite(expected), numpy.isfinite(got)):
        return _wrong(f"{what} is not finite on one side only")
    distance = numpy.nan_to_num(numpy.abs(expected - got))
    allowed = tolerance * numpy.maximum(numpy.abs(expected) if usual != 1.0 else 1.0, usual)
    shares = numpy.divide(distance, allowed, out=numpy.where(distance > 0, math.inf, 0.0), where=allowed > 0)
    place = numpy.unravel_index(int(numpy.argmax(shares)), shares.shape)
    value = float(distance[place])
    limit = float(numpy.broadcast_to(allowed, shares.shape)[place])
    text = (
        f"{what} is {got[place]:.9g} where the model says {expected[place]:.9g}: a difference of {value:.2g}, "
        f"allowed is {limit:.2g}"
    )
    return Difference(float(shares[place]), value, text)


def _labels(sample: Sample, got: Any, tolerance: float) -> Difference:
    expected = sample.predictions
    wrong = expected != got
    if expected.ndim > 1:
        wrong = wrong.any(axis=tuple(range(1, expected.ndim)))
    for row in numpy.flatnonzero(wrong):
        if not _tie(sample, int(row), got[row], tolerance):
            many = int(wrong.sum())
            return _wrong(
                f"{many} of {len(expected)} predictions differ, one is {got[row].tolist()!r} where the model says "
                f"{expected[row].tolist()!r}"
            )
    return Difference(0.0, 0.0, "equal")


def _tie(sample: Sample, row: int, label: Any, tolerance: float) -> bool:
    """Whether the model gives this label as much as its own, within the tolerance."""
    if sample.probabilities is None or not sample.classes or label not in sample.classes:
        return False
    scores = sample.probabilities[row]
    return bool(scores.max() - scores[sample.classes.index(label)] <= 2 * tolerance)


def _wrong(what: str) -> Difference:
    return Difference(math.inf, math.inf, what)
