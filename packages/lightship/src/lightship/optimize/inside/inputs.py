"""Rows to ask both models: drawn where the model decides something, and around the golden request."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy

from lightship.optimize.inside.landmarks import categories, landmarks, remembered_rows
from lightship.optimize.inside.refusal import Refusal
from lightship_runtime.engines import Signature
from lightship_runtime.golden import Golden
from lightship_runtime.payload import Call, ServedModel, parse

_ROWS = 1000
_MISSING_ROWS = 50
_REMEMBERED = 200  # rows of the training data, where the model keeps them
_SCALES = (1.0, 10.0, 100.0)  # of features that nothing is known about


@dataclass(frozen=True)
class Inputs:
    """What both models are asked.

    Attributes:
        rows: Lists in the order of the columns.
        missing: Rows in which values are missing.
        texts: The columns that hold texts.
    """

    rows: list[Any]
    missing: list[Any]
    texts: frozenset[int]


def inputs_of(model: Any, signature: Signature, golden: Golden | None) -> Inputs:
    """The same rows each time. Raises `Refusal` where the model does not take rows of a known length."""
    if signature.kind == "text":
        raise Refusal(
            "it takes texts, and ONNX Runtime cuts them into words in another way: its letters are those of ASCII",
            "Leave [optimize] onnx out: the model is served as it is.",
        )
    if signature.features is None:
        raise Refusal(
            "the model does not say how many columns it takes",
            "Models that take any JSON values are served as they are: leave [optimize] onnx out.",
        )
    random = numpy.random.default_rng(0)
    known = [list(row) for row in _golden_rows(golden, signature)]
    texts = categories(model, signature)
    for row in known:
        for column, value in enumerate(row):
            if isinstance(value, str):
                texts.setdefault(column, []).append(value)
    numbers = landmarks(model, signature.features)
    for row in known:
        for column, value in enumerate(row):
            if isinstance(value, (int, float)):
                numbers[column].append(float(value))
    kinds = random.random(_ROWS)
    columns = [
        list(random.choice(sorted(set(texts[column])), _ROWS))
        if column in texts
        else _draw(numbers[column], kinds, random)
        for column in range(signature.features)
    ]
    known += remembered_rows(model, signature.features)[:_REMEMBERED]
    rows = known + [[_plain(value) for value in row] for row in zip(*columns, strict=True)]
    numeric = [column for column in range(signature.features) if column not in texts]
    missing = [list(row) for row in rows[-_MISSING_ROWS:]] if numeric else []
    for row in missing:
        row[int(random.choice(numeric))] = None
    return Inputs(rows, missing, frozenset(texts))


def _draw(landmarks: list[float], kinds: numpy.ndarray, random: numpy.random.Generator) -> list[float]:
    """Numbers of one column, within and around what is known of it.

    `kinds` says of each row, from 0 to 1, what it is: a quarter are whole numbers and a quarter have few digits, as
    measurements have, so that there are equal values and equal distances as well.
    """
    if landmarks:
        low, high = min(landmarks), max(landmarks)
        width = (high - low) or abs(high) or 1.0
        drawn = random.uniform(low - width / 2, high + width / 2, _ROWS)
        decimals = 1 - math.floor(math.log10(width))
    else:
        drawn = random.normal(size=_ROWS) * random.choice(_SCALES, _ROWS)
        decimals = 1
    drawn = numpy.where(kinds < 0.25, numpy.round(drawn), drawn)
    drawn = numpy.where((kinds >= 0.25) & (kinds < 0.5), numpy.round(drawn, decimals), drawn)
    drawn[random.random(_ROWS) < 0.02] = 0.0
    if landmarks:
        # Exactly where a model decides, as data with few digits would have it.
        exact = random.random(_ROWS) < 0.1
        drawn[exact] = numpy.round(random.choice(landmarks, int(exact.sum())), 4)
    return [float(value) for value in drawn]


def _golden_rows(golden: Golden | None, signature: Signature) -> Iterator[Any]:
    if golden is None:
        return
    for instance in parse(Call("predict", golden.body), ServedModel("model", signature)).instances:
        named = isinstance(instance, dict) and signature.names
        row = [instance.get(name) for name in signature.names or ()] if named else instance
        if isinstance(row, list) and len(row) == signature.features and None not in row:
            yield row


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else float(value)
