"""From scores of tokens to entities, as the token classification of transformers tells them.

By itself each token that has a label is an entity. `simple` joins neighbours of one label; the others first give all
tokens of a word one label: that of the first, of the highest score, or of the mean of their scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from numpy import ndarray

Strategy = Literal["none", "simple", "first", "average", "max"]
STRATEGIES: tuple[Strategy, ...] = ("none", "simple", "first", "average", "max")
_NOTHING = "O"  # the label of what is no entity


@dataclass(frozen=True)
class Words:
    """How a tokenizer writes words.

    Attributes:
        decoder: Its decoder, which joins tokens; None where they are joined with spaces.
        prefixed: Whether tokens that continue a word are marked as such.
        unknown: The number of the token for what it does not know.
    """

    decoder: Any
    prefixed: bool
    unknown: int | None

    def joined(self, tokens: list[str]) -> str:
        """Tokens as text."""
        if self.decoder is None:
            return " ".join(tokens)
        text: str = self.decoder.decode(tokens)
        return text


@dataclass(frozen=True)
class _Part:
    """A token or a word: its scores by label, the best of them, and where it stands in the text."""

    word: str
    scores: ndarray[Any, Any]
    start: int
    end: int
    index: int = 0
    continues: bool = False

    @property
    def label(self) -> int:
        return int(self.scores.argmax())

    @property
    def score(self) -> float:
        return float(self.scores.max())


Entity: TypeAlias = "dict[str, Any]"


def entities(
    text: str, encoding: Any, scores: ndarray[Any, Any], labels: Sequence[str], strategy: Strategy, words: Words
) -> list[Entity]:
    """The entities of one text.

    Args:
        encoding: The text's `Encoding` of the library `tokenizers`.
        scores: One row of scores per token.
        labels: The labels, in the order of the scores.
    """
    parts = list(_tokens(text, encoding, scores, words))
    if strategy == "none":
        return [
            {
                "entity": labels[part.label],
                "score": part.score,
                "index": part.index,
                "word": part.word,
                "start": part.start,
                "end": part.end,
            }
            for part in parts
            if labels[part.label] != _NOTHING
        ]
    if strategy != "simple":
        parts = [_word(group, strategy, words) for group in _by_word(parts)]
    found = [_joined(group, labels, words) for group in _by_label(parts, labels)]
    return [one for one in found if one["entity_group"] != _NOTHING]


def _tokens(text: str, encoding: Any, scores: ndarray[Any, Any], words: Words) -> Iterator[_Part]:
    columns = zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, scores)  # noqa: B905
    for index, (number, word, (start, end), special, row) in enumerate(columns):
        if special:
            continue
        there = text[start:end]
        if number == words.unknown:
            yield _Part(there, row, start, end, index)
        elif words.prefixed:
            yield _Part(word, row, start, end, index, continues=len(word) != len(there))
        else:
            yield _Part(word, row, start, end, index, continues=start > 0 and " " not in text[start - 1 : start + 1])


def _by_word(parts: Sequence[_Part]) -> list[list[_Part]]:
    groups: list[list[_Part]] = []
    for part in parts:
        if groups and part.continues:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _word(group: list[_Part], strategy: Strategy, words: Words) -> _Part:
    if strategy == "first":
        scores = group[0].scores
    elif strategy == "max":
        scores = max(group, key=lambda part: part.score).scores
    else:
        import numpy

        scores = numpy.stack([part.scores for part in group]).mean(axis=0)
    return _Part(words.joined([part.word for part in group]), scores, group[0].start, group[-1].end)


def _by_label(parts: Sequence[_Part], labels: Sequence[str]) -> list[list[_Part]]:
    """Neighbours of one kind; a label that says B- begins an entity."""
    groups: list[list[_Part]] = []
    for part in parts:
        label = labels[part.label]
        if groups and not label.startswith("B-") and _kind(label) == _kind(labels[groups[-1][-1].label]):
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _kind(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _joined(group: list[_Part], labels: Sequence[str], words: Words) -> Entity:
    import numpy

    return {
        "entity_group": labels[group[0].label].split("-", 1)[-1],
        "score": float(numpy.mean([numpy.float32(part.score) for part in group])),
        "word": words.joined([part.word for part in group]),
        "start": group[0].start,
        "end": group[-1].end,
    }
